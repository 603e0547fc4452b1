#include "core/step_watch.hpp"

#include <gtest/gtest.h>

using coil::detail::function_of;

TEST(StepWatch, shortens_what_compilers_call_a_function) {
    // Clang's
    EXPECT_EQ(function_of("coil::Coro<> checksum()"), "checksum");
    EXPECT_EQ(function_of("Coro<std::map<int, std::string>> app::load(std::function<void (int)>, int)"),
              "app::load");
    EXPECT_EQ(function_of("auto f()::(anonymous class)::operator()(coil::Future<int>) const"),
              "f()::(anonymous class)::operator()");
    EXPECT_EQ(function_of("Coro<> (anonymous namespace)::Server::serve(int) const"),
              "(anonymous namespace)::Server::serve");
    EXPECT_EQ(function_of("C app::make(T) const [T = std::function<int ()>]"), "app::make");
    // GCC's
    EXPECT_EQ(
        function_of("void {anonymous}::S::serve({anonymous}::S::serve(int) const::_ZNK1S5serveEi.Frame*)"),
        "{anonymous}::S::serve");
    EXPECT_EQ(function_of("void main()::<lambda(int)>::operator()(main()::<lambda(int)>::_ZZ4main.Frame*)"),
              "main()::<lambda(int)>::operator()");
    EXPECT_EQ(function_of("coil::Coro<> make(T) [with T = std::pair<int, int>]"), "make");
    EXPECT_EQ(function_of("main()::<lambda(int)>"), "main()::<lambda(int)>");
    // neither
    EXPECT_EQ(function_of(""), "");
    EXPECT_EQ(function_of("name"), "name");
    EXPECT_EQ(function_of(")"), ")");
}
