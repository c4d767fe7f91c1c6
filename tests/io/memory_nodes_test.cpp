#include "bezel/io/memory_nodes.h"

#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using Numbers = std::vector<int>;

Numbers from_to(int first, int last) {
  Numbers numbers;
  for (int i = first; i <= last; ++i) numbers.push_back(i);
  return numbers;
}

/// A made-up /sys/devices/system.
struct Machine {
  test::TempFolder folder;
  std::string system = folder / "system";

  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path whole = std::filesystem::path(system) / path;
    std::filesystem::create_directories(whole.parent_path());
    test::write_bytes(whole.string(), text);
  }
  void node(int number, const std::string& cores) const {
    write("node/node" + std::to_string(number) + "/cpulist", cores + "\n");
  }
};

/// Two sockets of 16 cores with two threads each, as their numbers often come.
struct TwoSockets : Machine {
  UsableParts all{from_to(0, 63), {0, 1}};

  TwoSockets() {
    write("cpu/online", "0-63\n");
    write("node/online", "0-1\n");
    write("node/has_memory", "0-1\n");
    node(0, "0-15,32-47");
    node(1, "16-31,48-63");
  }
};

std::vector<std::string> bind(const Machine& machine, const UsableParts& usable,
                              std::vector<std::string> environment = {},
                              std::vector<std::string> arguments = {"bezel", "train"}) {
  const auto pointers = [](std::vector<std::string>& texts) {
    std::vector<char*> made;
    for (std::string& text : texts) made.push_back(text.data());
    made.push_back(nullptr);
    return made;
  };
  const std::vector<char*> given = pointers(arguments), variables = pointers(environment);
  return node_binding(machine.system, usable, given.data(), variables.data());
}

TEST(NumberList, ReadsWhatTheKernelWrites) {
  EXPECT_EQ(parse_number_list("0-3,8\n"), (Numbers{0, 1, 2, 3, 8}));
  EXPECT_EQ(parse_number_list("5"), Numbers{5});
  EXPECT_EQ(parse_number_list("\n"), Numbers{});
  EXPECT_EQ(parse_number_list(""), Numbers{});
  for (const char* bad :
       {"a", "3-1", "1,", ",1", "1-", "-1", "1,1", "2,1", "0-3,2", "1 2", "99999999999", "0-99999999"})
    EXPECT_EQ(parse_number_list(bad), std::nullopt) << bad;
}

TEST(UsableParts, AreReadFromTheProcess) {
  const UsableParts usable = parse_usable_parts(
      "Name:\tbezel\nCpus_allowed:\tf0\nCpus_allowed_list:\t4-7\nMems_allowed:\t2\nMems_allowed_list:\t1\nThreads:"
      "\t1\n");
  EXPECT_EQ(usable.cores, from_to(4, 7));
  EXPECT_EQ(usable.nodes, Numbers{1});
  EXPECT_TRUE(parse_usable_parts("Name:\tbezel\n").cores.empty());
  EXPECT_FALSE(usable_parts().cores.empty()) << "of this process";
  ::setenv("BEZEL_CORES_BEFORE_BINDING", "0-2,7", 1);
  EXPECT_EQ(usable_parts().cores, (Numbers{0, 1, 2, 7})) << "its threads are bound by now, this one too";
  ::unsetenv("BEZEL_CORES_BEFORE_BINDING");
}

TEST(MemoryNodes, AreThoseWithMemoryAndUsableCores) {
  const TwoSockets machine;
  const auto nodes = memory_nodes(machine.system, machine.all);
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[1].number, 1);
  EXPECT_EQ(nodes[1].cores.size(), 32u);
  EXPECT_EQ(nodes[1].cores.front(), 16);
  const auto bound = memory_nodes(machine.system, {from_to(16, 31), {0, 1}});
  ASSERT_EQ(bound.size(), 1u) << "as a rank of mpirun --map-by numa";
  EXPECT_EQ(bound[0].number, 1);
  EXPECT_EQ(memory_nodes(machine.system, {from_to(0, 63), {1}}).size(), 1u) << "a cpuset with the memory of one";
  EXPECT_EQ(memory_nodes(machine.system, {from_to(0, 63), {}}).size(), 2u);
}

TEST(MemoryNodes, OfflineOnesAndThoseWithoutMemoryOrCoresDoNotCount) {
  Machine machine;
  machine.write("node/online", "0,2,4-5\n");
  machine.write("node/has_memory", "0,2-3,5\n");
  machine.node(0, "0-3");
  machine.node(2, "");      // memory alone: of a device
  machine.node(3, "4-7");   // offline, left over
  machine.node(4, "8-11");  // cores alone
  machine.node(5, "12-15");
  const auto nodes = memory_nodes(machine.system, {from_to(0, 15), {}});
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[0].number, 0);
  EXPECT_EQ(nodes[1].number, 5);
}

TEST(MemoryNodes, ASystemThatSaysNothingHasNone) {
  const Machine machine;
  EXPECT_TRUE(memory_nodes(machine.system, {{0, 1}, {}}).empty());
  machine.write("node/online", "all\n");
  EXPECT_TRUE(memory_nodes(machine.system, {{0, 1}, {}}).empty());
}

TEST(NodeBinding, IsAPlaceForEachNode) {
  const TwoSockets machine;
  EXPECT_EQ(bind(machine, machine.all),
            (std::vector<std::string>{"OMP_PROC_BIND=close", "OMP_PLACES={0:16,32:16},{16:16,48:16}",
                                      "BEZEL_CORES_BEFORE_BINDING=0-63"}));
}

TEST(NodeBinding, LeavesWhatSomebodyHasDecided) {
  const TwoSockets machine;
  for (const char* variable : {"OMP_PROC_BIND=false", "OMP_PLACES=cores", "GOMP_CPU_AFFINITY=0-3", "OMP_NUM_THREADS=8",
                               "OMPI_COMM_WORLD_SIZE=2", "PMI_SIZE=2", "SLURM_PROCID=0"})
    EXPECT_TRUE(bind(machine, machine.all, {"HOME=/root", variable}).empty()) << variable;
  EXPECT_FALSE(bind(machine, machine.all, {"HOME=/root", "OMP_WAIT_POLICY=passive"}).empty());
  EXPECT_TRUE(bind(machine, machine.all, {}, {"bezel", "train", "--threads=8"}).empty());
  EXPECT_TRUE(bind(machine, {from_to(0, 40), {0, 1}}).empty()) << "taskset, or a cpuset";
  EXPECT_TRUE(bind(machine, {from_to(16, 31), {0, 1}}).empty()) << "bound to a node";
}

TEST(NodeBinding, LeavesMachinesWithOneNode) {
  Machine machine;
  machine.write("cpu/online", "0-7\n");
  machine.write("node/online", "0\n");
  machine.write("node/has_memory", "0\n");
  machine.node(0, "0-7");
  EXPECT_TRUE(bind(machine, {from_to(0, 7), {0}}).empty());
}

TEST(NodeBinding, LeavesMachinesWithCoresThatNoMemoryIsNearTo) {
  Machine machine;
  machine.write("cpu/online", "0-11\n");
  machine.write("node/online", "0-2\n");
  machine.write("node/has_memory", "0-1\n");
  for (int number = 0; number < 3; ++number)
    machine.node(number, std::to_string(4 * number) + "-" + std::to_string(4 * number + 3));
  EXPECT_TRUE(bind(machine, {from_to(0, 11), {0, 1}}).empty());
}

TEST(NodeHint, SaysHowManyProcesses) {
  const TwoSockets machine;
  const std::string hint = node_hint(memory_nodes(machine.system, machine.all));
  EXPECT_TRUE(test::says(hint, "2 memory nodes of 32 cores"));
  EXPECT_TRUE(test::says(hint, "mpirun -n 2 --map-by numa bezel train"));
  EXPECT_TRUE(test::says(node_hint(memory_nodes(machine.system, {from_to(0, 31), {}})), "2 memory nodes of 16 cores"));
  EXPECT_TRUE(
      test::says(node_hint(memory_nodes(machine.system, {from_to(0, 23), {}})), "2 memory nodes of 16, 8 cores"));
  EXPECT_EQ(node_hint(memory_nodes(machine.system, {from_to(0, 15), {}})), "");
  EXPECT_EQ(node_hint({}), "");
}

}  // namespace
}  // namespace bezel::io
