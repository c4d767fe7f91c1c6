#include "bezel/io/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include <gtest/gtest.h>

#include "bezel/io/home_path.h"
#include "support/temp_folder.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

/// Sets an environment variable for the time of a test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

/// The folders of the hub's cache for one model, as huggingface_hub lays them out.
void make_cached(const std::string& root, const std::string& commit, bool with_ref) {
  fs::create_directories(root + "/snapshots/" + commit);
  fs::create_directories(root + "/refs");
  test::write_bytes(root + "/snapshots/" + commit + "/config.json", "{}");
  if (with_ref) test::write_bytes(root + "/refs/main", commit);
}

TEST(HubCache, IdsAreToldFromPaths) {
  for (const char* id : {"google/gemma-4-E2B-it", "unsloth/gemma_4.1"}) EXPECT_TRUE(is_hub_id(id)) << id;
  for (const char* path : {"gemma", "/gemma/x", "./a/b", "a/b/c", "../a", "a/", "~/a", "a b/c", ""})
    EXPECT_FALSE(is_hub_id(path)) << path;
}

TEST(HubCache, ACacheRootIsItsSnapshot) {
  const test::TempFolder folder;
  const std::string root = folder / "models--google--gemma";
  make_cached(root, "aaa", false);
  EXPECT_EQ(find_model(root), root + "/snapshots/aaa");
  make_cached(root, "bbb", true);
  EXPECT_EQ(find_model(root), root + "/snapshots/bbb") << "refs/main names it";
  fs::remove(root + "/refs/main");
  EXPECT_TRUE(test::says(test::error_of([&] { find_model(root); }), "2 snapshots"));
  fs::remove_all(root + "/snapshots/aaa");
  fs::remove_all(root + "/snapshots/bbb");
  EXPECT_TRUE(test::says(test::error_of([&] { find_model(root); }), "did not finish"));
  fs::create_directories(folder / "plain/snapshots");
  test::write_bytes(folder / "plain/config.json", "{}");
  EXPECT_EQ(find_model(folder / "plain"), folder / "plain") << "a checkpoint with such a folder in it";
}

TEST(HubCache, AnIdIsLookedUpInTheLocalCache) {
  const test::TempFolder folder;
  const Variable cache("HF_HUB_CACHE", folder.path().string());
  make_cached(folder / "models--google--gemma-4-E2B-it", "0123abcd", true);
  EXPECT_EQ(find_model("google/gemma-4-E2B-it"), folder / "models--google--gemma-4-E2B-it/snapshots/0123abcd");
  EXPECT_EQ(find_model("no-such-folder"), "no-such-folder") << "others say what is missing there";
  const std::string message = test::error_of([] { find_model("google/gemma-4-none"); });
  EXPECT_TRUE(test::says(message, "hf download google/gemma-4-none"));
  EXPECT_TRUE(test::says(message, folder.path().string()));
}

TEST(HubCache, RootsFollowTheVariablesOfTheHub) {
  const Variable home("HOME", "/h"), cache("HF_HUB_CACHE", "~/c"), hf("HF_HOME", "/x");
  const std::vector<std::string> roots = hub_cache_roots();
  ASSERT_GE(roots.size(), 3u);
  EXPECT_EQ(roots[0], "/h/c");
  EXPECT_EQ(roots.back(), "/h/.cache/huggingface/hub");
  EXPECT_NE(std::find(roots.begin(), roots.end(), "/x/hub"), roots.end());
}

TEST(HomePath, ATildeAtTheBeginIsTheHomeFolder) {
  const Variable home("HOME", "/home/me");
  EXPECT_EQ(expand_home("~/x"), "/home/me/x");
  EXPECT_EQ(expand_home("~"), "/home/me");
  EXPECT_EQ(expand_home("a/~/x"), "a/~/x");
  EXPECT_EQ(expand_home("~you/x"), "~you/x");
  EXPECT_EQ(expand_home(""), "");
}

}  // namespace
}  // namespace bezel::io
