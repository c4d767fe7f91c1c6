# `cmake --install`: the command, the library with its headers, and what find_package(bezel) needs.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

install(TARGETS bezel_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS bezel bezel_parsers EXPORT bezelTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY bezel/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/bezel FILES_MATCHING PATTERN "*.h")

set(bezel_package_dir lib/cmake/bezel)
install(EXPORT bezelTargets NAMESPACE bezel:: DESTINATION ${bezel_package_dir})
configure_package_config_file(cmake/bezelConfig.cmake.in "${PROJECT_BINARY_DIR}/bezelConfig.cmake"
  INSTALL_DESTINATION ${bezel_package_dir})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/bezelConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES cmake/LibTorch.cmake "${PROJECT_BINARY_DIR}/bezelConfig.cmake"
  "${PROJECT_BINARY_DIR}/bezelConfigVersion.cmake" DESTINATION ${bezel_package_dir})
if(TARGET bezel_mpi)
  install(TARGETS bezel_mpi LIBRARY DESTINATION lib/bezel)
endif()
