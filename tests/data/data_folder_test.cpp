#include "bezel/data/data_folder.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

class DataFolder : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = ::testing::TempDir() + "bezel_folder_" + std::to_string(::getpid()); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void make(std::initializer_list<const char*> names) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    for (const char* name : names) {
      const std::filesystem::path path = std::filesystem::path(folder_) / name;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path) << "{}\n";
    }
  }
  std::string refusal() {
    try {
      find_folder_files(folder_);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::string folder_;
};

TEST_F(DataFolder, EveryUsualNameOfAHeldOutFileIsFound) {
  for (const char* name : {"valid.jsonl", "validation.jsonl", "val.json", "dev.jsonl", "eval.csv", "dev.jsonl.gz"}) {
    make({"train.jsonl", "test.jsonl", name});
    const FolderFiles files = find_folder_files(folder_);
    EXPECT_EQ(files.train, folder_ + "/train.jsonl");
    EXPECT_EQ(files.held_out, folder_ + "/" + name);
    EXPECT_EQ(files.test, folder_ + "/test.jsonl");
    EXPECT_EQ(files.media_root, folder_);
  }
  make({"train.csv"});
  EXPECT_EQ(find_folder_files(folder_).train, folder_ + "/train.csv");
  EXPECT_EQ(find_folder_files(folder_).held_out, "");
}

TEST_F(DataFolder, ImageFoldersAreFound) {
  make({"train/metadata.jsonl", "train/cat.png", "validation/metadata.jsonl"});
  const FolderFiles split = find_folder_files(folder_);
  EXPECT_EQ(split.train, folder_ + "/train/metadata.jsonl");
  EXPECT_EQ(split.held_out, folder_ + "/validation/metadata.jsonl");
  EXPECT_EQ(split.media_root, folder_ + "/train");
  make({"metadata.csv", "cat.png"});
  EXPECT_EQ(find_folder_files(folder_).train, folder_ + "/metadata.csv");
  EXPECT_EQ(find_folder_files(folder_).media_root, folder_);
}

TEST_F(DataFolder, TwoFilesForOnePurposeAreNamed) {
  make({"train.jsonl", "valid.jsonl", "dev.jsonl"});
  EXPECT_NE(refusal().find("valid.jsonl, " + folder_ + "/dev.jsonl; name one of them as eval_file"), std::string::npos)
      << refusal();
  make({"train.jsonl", "train.csv"});
  EXPECT_NE(refusal().find("name one of them as train_file"), std::string::npos) << refusal();
}

TEST_F(DataFolder, WithoutATrainFileWhatIsThereIsNamed) {
  make({"data.parquet", "notes.txt"});
  EXPECT_NE(refusal().find("no train file"), std::string::npos) << refusal();
  EXPECT_NE(refusal().find("found data.parquet, notes.txt"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace bezel::data
