# libbezel_mpi.so, beside the command, which loads it under mpirun and srun. Nothing else knows of MPI: another MPI needs
# this library alone rebuilt.
set(BEZEL_MPI AUTO CACHE STRING "Train in several processes, on MPI: ON, OFF or AUTO (where an MPI is found)")
if(BEZEL_MPI)
  find_package(MPI COMPONENTS CXX QUIET)
  if(NOT MPI_CXX_FOUND AND NOT BEZEL_MPI STREQUAL "AUTO")
    message(FATAL_ERROR "BEZEL_MPI=ON needs an MPI with its headers (Debian: libopenmpi-dev)")
  endif()
endif()
if(BEZEL_MPI AND MPI_CXX_FOUND)
  add_library(bezel_mpi MODULE bezel/train/mpi_library.cpp)
  bezel_flags(bezel_mpi)
  # The C interface: the one in C++ was dropped from MPI.
  target_compile_definitions(bezel_mpi PRIVATE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
  target_link_libraries(bezel_mpi PRIVATE MPI::MPI_CXX Threads::Threads)
  set_target_properties(bezel_mpi PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
endif()
