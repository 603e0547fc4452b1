// GoogleTest's own main, and the beginning of worker processes: see test_process_pool.cpp.

#include <gtest/gtest.h>

#include "coil/process_pool.hpp"

int main(int argc, char** argv) {
    coil::freeze_support();
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
