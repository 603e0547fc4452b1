#include "coil/detail/pool.hpp"

#include <gtest/gtest.h>
#include <malloc.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using namespace coil::detail;

namespace {

struct Block {
    void* memory;
    std::size_t size;
    unsigned char mark;
};

Block make(std::size_t size, unsigned char mark) {
    void* memory = pool_allocate(size);
    std::memset(memory, mark, size);
    return {memory, size, mark};
}
/// Whether nobody else wrote into it.
bool free_checked(const Block& block) {
    auto* bytes = static_cast<unsigned char*>(block.memory);
    bool intact = true;
    for (std::size_t i = 0; i < block.size; ++i) intact = intact && bytes[i] == block.mark;
    pool_deallocate(block.memory, block.size);
    return intact;
}

}  // namespace

TEST(Pool, gives_blocks_of_every_size_that_do_not_overlap) {
    std::vector<Block> blocks;
    for (std::size_t size = 1; size < 5000; size += size < 100 ? 1 : 37)
        blocks.push_back(make(size, static_cast<unsigned char>(size)));
    for (const Block& block : blocks) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.memory) % alignof(std::max_align_t), 0u);
        EXPECT_TRUE(free_checked(block)) << block.size;
    }
}

TEST(Pool, survives_random_use) {
    std::mt19937 random(std::random_device{}());
    std::vector<Block> blocks;
    for (int step = 0; step < 200'000; ++step) {
        if (blocks.empty() || random() % 9 < (step / 20'000 % 2 ? 3u : 6u)) {
            blocks.push_back(make(1 + random() % 2500, static_cast<unsigned char>(random())));
        } else {
            std::swap(blocks[random() % blocks.size()], blocks.back());
            ASSERT_TRUE(free_checked(blocks.back()));
            blocks.pop_back();
        }
    }
    for (const Block& block : blocks) EXPECT_TRUE(free_checked(block));
}

TEST(Pool, blocks_may_be_freed_in_another_Thread) {
    for (int round = 0; round < 20; ++round) {
        std::vector<Block> blocks;
        for (int i = 0; i < 500; ++i) blocks.push_back(make(64, 7));
        std::thread other([&] {
            for (const Block& block : blocks) EXPECT_TRUE(free_checked(block));
            blocks.clear();
            for (int i = 0; i < 500; ++i) blocks.push_back(make(64, 9));
        });
        other.join();
        for (const Block& block : blocks) EXPECT_TRUE(free_checked(block));
    }
}

TEST(Pool, many_threads_use_it_at_once_Thread) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([t] {
            std::vector<Block> blocks;
            for (int round = 0; round < 20; ++round) {
                for (int i = 0; i < 300; ++i)
                    blocks.push_back(make(32u << (i % 6), static_cast<unsigned char>(t * 16 + i)));
                for (const Block& block : blocks) EXPECT_TRUE(free_checked(block));
                blocks.clear();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}

#ifndef COIL_POOL_OFF

namespace {

std::size_t bytes_in_use() {
    auto info = ::mallinfo2();
    return info.uordblks + info.hblkhd;
}

}  // namespace

TEST(Pool, reuses_what_was_freed) {
    void* first = pool_allocate(100);
    pool_deallocate(first, 100);
    void* second = pool_allocate(97);  // the same class
    EXPECT_EQ(first, second);
    pool_deallocate(second, 97);
}

TEST(Pool, does_not_grow_with_rounds) {
    auto round = [] {
        std::vector<Block> blocks;
        for (int i = 0; i < 5000; ++i) blocks.push_back(make(512, 1));
        for (const Block& block : blocks) free_checked(block);
    };
    round();
    std::size_t before = bytes_in_use();
    for (int i = 0; i < 20; ++i) round();
    EXPECT_LE(bytes_in_use(), before + (1u << 20));
}

TEST(Pool, a_Thread_that_only_frees_gives_the_blocks_back_when_it_ends) {
    auto round = [] {
        std::vector<Block> blocks;
        for (int i = 0; i < 50; ++i) blocks.push_back(make(1024, 1));
        std::thread other([&] {
            for (const Block& block : blocks) free_checked(block);
        });
        other.join();
    };
    for (int i = 0; i < 10; ++i) round();
    std::size_t before = bytes_in_use();
    for (int i = 0; i < 400; ++i) round();  // 20 MB if they were lost
    EXPECT_LE(bytes_in_use(), before + (4u << 20));
}

TEST(Pool, a_Thread_that_only_allocates_and_one_that_only_frees_recycle) {
    std::size_t before = 0;
    for (int round = 0; round < 60; ++round) {
        std::vector<Block> blocks;
        std::thread maker([&] {
            for (int i = 0; i < 1000; ++i) blocks.push_back(make(1024, 1));
        });
        maker.join();
        std::thread breaker([&] {
            for (const Block& block : blocks) free_checked(block);
        });
        breaker.join();
        if (round == 9) before = bytes_in_use();
    }
    EXPECT_LE(bytes_in_use(), before + (8u << 20));
}

#endif
