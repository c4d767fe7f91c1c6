#include "bezel/gemma4/soft_token_cache.h"

#include <chrono>
#include <filesystem>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/gemma4/load.h"
#include "bezel/lora/targets.h"
#include "bezel/nn/clip_counts.h"
#include "bezel/nn/weight_site.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::gemma4 {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

class SoftTokenCacheTest : public testing::Test {
 protected:
  SoftTokenCache open(std::int64_t limit_bytes = 1 << 20, const std::string& fingerprint = "weights") const {
    return SoftTokenCache({folder.path().string(), fingerprint, limit_bytes});
  }

  // What the cache gives for image number `i`, whose soft tokens are `rows` rows of i.
  Tensor get(SoftTokenCache& cache, int i, std::int64_t rows = 4, const std::string& tower = "vision") {
    return cache.get(tower, {torch::full({3}, i)}, [&] {
      ++made;
      return torch::full({rows, 8}, i).to(torch::kBFloat16);
    });
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder.path())) names.push_back(entry.path().string());
    return names;
  }

  void age(const std::string& path, int hours) const {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(hours));
  }

  test::TempFolder folder;
  int made = 0;
};

TEST_F(SoftTokenCacheTest, GivesTheSameBytesWithoutMakingThemAgain) {
  SoftTokenCache cache = open();
  const Tensor first = get(cache, 7);
  EXPECT_TRUE(torch::equal(get(cache, 7), first));
  EXPECT_EQ(get(cache, 7).scalar_type(), torch::kBFloat16);
  SoftTokenCache later = open();
  EXPECT_TRUE(torch::equal(get(later, 7), first));
  EXPECT_EQ(made, 1);
  EXPECT_EQ(later.hits(), 1);
  EXPECT_EQ(later.bytes(), cache.bytes());
}

TEST_F(SoftTokenCacheTest, AnotherInputTowerOrFingerprintIsAnotherEntry) {
  SoftTokenCache cache = open(), other = open(1 << 20, "other weights");
  get(cache, 1);
  get(cache, 2);
  get(cache, 1, 4, "audio");
  get(other, 1);
  cache.get("vision", {torch::full({1, 3}, 1)}, [&] { return ++made, torch::zeros({1}); });
  cache.get("vision", {torch::full({3}, 1).to(torch::kInt)}, [&] { return ++made, torch::zeros({1}); });
  EXPECT_EQ(made, 6);
}

TEST_F(SoftTokenCacheTest, DamagedEntriesAreMadeAgain) {
  SoftTokenCache cache = open();
  const Tensor wanted = get(cache, 3);
  const std::string path = files().at(0), whole = test::read_bytes(path);
  std::string flipped = whole, shape = whole;
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  shape.replace(shape.find("[4,8]"), 5, "[8,4]");
  for (const std::string& bytes :
       {flipped, shape, whole.substr(0, whole.size() - 2), std::string("no tensor"), std::string()}) {
    test::write_bytes(path, bytes);
    made = 0;
    SoftTokenCache fresh = open();
    EXPECT_TRUE(torch::equal(get(fresh, 3), wanted));
    EXPECT_EQ(made, 1);
    EXPECT_EQ(test::read_bytes(path), whole) << "not mended";
    EXPECT_EQ(fresh.bytes(), static_cast<std::int64_t>(whole.size()));
  }
}

TEST_F(SoftTokenCacheTest, WhatWasUsedLongestAgoGoesFirst) {
  SoftTokenCache cache = open(64 * 1024);
  for (int i = 0; i < 3; ++i) get(cache, i, 1024);  // 16 KiB each
  get(cache, 0, 1024);
  get(cache, 3, 1024);  // a fourth does not fit beside three and their headers
  EXPECT_LE(cache.bytes(), 64 * 1024);
  EXPECT_EQ(files().size(), 3u);
  made = 0;
  get(cache, 0, 1024);
  EXPECT_EQ(made, 0);
  get(cache, 1, 1024);
  EXPECT_EQ(made, 1);
  get(cache, 9, 64 * 1024);
  EXPECT_EQ(files().size(), 3u) << "one that is too large for all of it pushes nothing out";
}

TEST_F(SoftTokenCacheTest, ALaterRunKnowsWhatWasUsedAndHasLessRoom) {
  SoftTokenCache cache = open();
  get(cache, 0, 1024);
  age(files().at(0), 5);
  get(cache, 1, 1024);
  SoftTokenCache later = open(40 * 1024);
  get(later, 2, 1024);
  made = 0;
  get(later, 1, 1024);
  EXPECT_EQ(made, 0);
  EXPECT_EQ(files().size(), 2u);
}

TEST_F(SoftTokenCacheTest, LeftoversGoAndOtherFilesStay) {
  SoftTokenCache cache = open();
  get(cache, 0);
  const std::string left = files().at(0) + ".123-0.tmp", young = files().at(0) + ".124-0.tmp";
  for (const std::string& path : {left, young, folder / "notes.tmp", folder / "ab.safetensors"})
    test::write_bytes(path, "x");
  age(left, 2);
  age(folder / "notes.tmp", 2);
  open();
  EXPECT_FALSE(fs::exists(left));
  for (const std::string& path : {young, folder / "notes.tmp", folder / "ab.safetensors"})
    EXPECT_TRUE(fs::exists(path));
}

TEST_F(SoftTokenCacheTest, AFolderThatCannotBeWrittenCostsTimeOnly) {
  test::write_bytes(folder / "file", "");
  SoftTokenCache cache({folder / "file/cache", "weights", 1 << 20});
  get(cache, 1);
  get(cache, 1);
  EXPECT_EQ(made, 2);
}

TEST_F(SoftTokenCacheTest, AModelAsksItForTowersWithoutAdaptersOnly) {
  const test::TempFolder checkpoint;
  test::write_tiny_checkpoint(checkpoint.path().string());
  Model model = load_model(checkpoint.path().string(), {torch::kFloat, torch::kCPU}).model;
  lora::LoraConfig config;
  config.towers = {lora::Tower::kAudio, lora::Tower::kProjectors};
  lora::Selection selection = lora::select_targets(*model, config);
  lora::attach(selection, config);
  const input::Batch batch = test::tiny_batch();
  const Tensor wanted = model->encode(batch).rows;
  const auto cache = std::make_shared<SoftTokenCache>(open());
  model->set_soft_token_cache(cache);
  for (int i = 0; i < 3; ++i) {
    const Tensor rows = model->encode(batch).rows;
    EXPECT_TRUE(torch::equal(rows, wanted));
    EXPECT_TRUE(rows.requires_grad()) << "the projector behind the cache is trained";
  }
  EXPECT_EQ(cache->misses(), 1);
  EXPECT_EQ(cache->hits(), 2);
  std::vector<nn::LinearImpl*> clipped;
  for (const nn::WeightSite& site : nn::linear_sites(*model))
    if (site.layer->clip) clipped.push_back(site.layer);
  ASSERT_FALSE(clipped.empty());
  const nn::ClipObserver clips(clipped);
  model->encode(batch);
  EXPECT_EQ(cache->hits(), 2) << "clamps are counted while the tower runs";
}

}  // namespace
}  // namespace bezel::gemma4
