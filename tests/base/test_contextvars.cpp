#include "coil/contextvars.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/alive.hpp"
#include "support/errors.hpp"

using namespace coil;
using support::Alive;
using support::thrown_by;

TEST(ContextVar, gives_the_value_then_the_argument_then_the_default) {
    ContextVar<int> plain("plain");
    ContextVar<int> with_default("with_default", 7);
    EXPECT_EQ(plain.name(), "plain");
    EXPECT_EQ(thrown_by([&] { return plain.get(); }).substr(0, 11), "LookupError");
    EXPECT_EQ(plain.get(3), 3);
    EXPECT_EQ(with_default.get(), 7);
    EXPECT_EQ(with_default.get(3), 3) << "the argument comes before the default";
    auto a = plain.set(1);
    auto b = with_default.set(2);
    EXPECT_EQ(plain.get(3), 1);
    EXPECT_EQ(with_default.get(3), 2);
    plain.reset(a);
    with_default.reset(b);
    EXPECT_EQ(plain.get(3), 3);
    EXPECT_EQ(with_default.get(), 7);
}

TEST(ContextVar, tokens_undo_in_any_order_and_know_what_was_before) {
    ContextVar<std::string> var("var");
    auto first = var.set("one");
    auto second = var.set("two");
    EXPECT_EQ(&first.var(), &var);
    EXPECT_EQ(first.old_value(), std::nullopt);
    EXPECT_EQ(second.old_value(), "one");
    auto third = var.set("three");
    var.reset(second);
    EXPECT_EQ(var.get(), "one");
    var.reset(third);
    EXPECT_EQ(var.get(), "two");
    var.reset(first);
    EXPECT_EQ(var.get("none"), "none");
    EXPECT_EQ(thrown_by([&] { var.reset(first); }).substr(0, 12), "RuntimeError");
}

TEST(ContextVar, variables_of_the_same_name_are_different) {
    ContextVar<int> a("same", 1);
    ContextVar<int> b("same", 2);
    auto token = a.set(5);
    EXPECT_EQ(b.get(), 2);
    a.reset(token);
}

TEST(Context, a_copy_is_independent_both_ways) {
    ContextVar<int> var("var", 0);
    auto token = var.set(1);
    Context copy = copy_context();
    var.set(2);
    EXPECT_EQ(copy[var], 1);
    copy.run([&] {
        EXPECT_EQ(var.get(), 1);
        var.set(3);
    });
    EXPECT_EQ(copy[var], 3);
    EXPECT_EQ(var.get(), 2);
    Context second = copy.copy();
    EXPECT_FALSE(second == copy);
    EXPECT_TRUE(second == Context(second)) << "a handle's copy is the same context";
    second.run([&] { var.set(4); });
    EXPECT_EQ(copy[var], 3);
    var.reset(token);
}

TEST(Context, run_gives_the_result_and_restores_after_an_error) {
    ContextVar<int> var("var", 0);
    Context context;
    EXPECT_EQ(context.run([](int a, int b) { return a + b; }, 2, 3), 5);
    EXPECT_EQ(thrown_by([&] {
                  context.run([&] {
                      var.set(6);
                      throw ValueError("inside");
                  });
              }),
              "ValueError: inside");
    EXPECT_EQ(var.get(), 0);
    EXPECT_EQ(context.run([&] { return var.get(); }), 6) << "it can be entered again";
}

TEST(Context, is_not_entered_twice_but_others_nest) {
    ContextVar<int> var("var", 0);
    Context outer;
    Context inner;
    outer.run([&] {
        var.set(1);
        inner.run([&] {
            EXPECT_EQ(var.get(), 0);
            EXPECT_EQ(thrown_by([&] { outer.run([] {}); }).substr(0, 12), "RuntimeError");
        });
        EXPECT_EQ(var.get(), 1);
    });
}

TEST(Context, looks_like_a_mapping) {
    ContextVar<int> a("a", 1);
    ContextVar<int> b("b");
    Context context;
    EXPECT_EQ(context.size(), 0u);
    EXPECT_FALSE(context.contains(a));
    context.run([&] {
        a.set(5);
        b.set(6);
    });
    EXPECT_EQ(context.size(), 2u);
    EXPECT_TRUE(context.contains(a));
    EXPECT_EQ(context[b], 6);
    EXPECT_EQ(thrown_by([&] { return Context()[a]; }).substr(0, 11), "LookupError");
}

TEST(Context, values_live_as_long_as_a_context_holds_them) {
    long before = Alive::count();
    ContextVar<Alive> var("var");
    {
        Context context;
        context.run([&] { var.set(Alive()); });
        Context copy = context.copy();
        EXPECT_EQ(Alive::count(), before + 1) << "copies share the value";
        copy.run([&] { var.set(Alive()); });
        EXPECT_EQ(Alive::count(), before + 2);
        context = Context();
        EXPECT_EQ(Alive::count(), before + 1);
    }
    EXPECT_EQ(Alive::count(), before);
}

TEST(Context, every_Thread_begins_with_an_empty_one) {
    ContextVar<int> var("var", 0);
    auto token = var.set(5);
    int seen = -1;
    std::thread other([&] {
        seen = var.get();
        var.set(6);
    });
    other.join();
    EXPECT_EQ(seen, 0);
    EXPECT_EQ(var.get(), 5);
    var.reset(token);
}

TEST(Context, copies_of_one_are_used_by_many_threads_at_once_Thread) {
    ContextVar<std::string> var("var");
    ContextVar<int> number("number", 0);
    Context shared;
    shared.run([&] { var.set("a text that is long enough for the heap"); });
    std::vector<Context> copies;
    for (int i = 0; i < 8; ++i) copies.push_back(shared.copy());
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&, i, own = std::move(copies[static_cast<std::size_t>(i)])]() mutable {
            for (int round = 0; round < 500; ++round) {
                Context copy = own.copy();
                copy.run([&] {
                    number.set(i);
                    EXPECT_EQ(var.get(), "a text that is long enough for the heap");
                    var.set("other");
                    EXPECT_EQ(number.get(), i);
                });
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(shared[var], "a text that is long enough for the heap");
}
