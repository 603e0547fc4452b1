// libstdc++ counts the holders of an exception object with instructions of its own, which the thread sanitizer does not see:
// that one thread destroys what another has read before it let go looks like a race. These functions, found before those of the
// library, tell it of that order and then call them.

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)

#include <cxxabi.h>
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <exception>

namespace {

void let_go(void* object) {
    __tsan_release(object);
    __tsan_acquire(object);
}

template <class Function>
Function* in_the_library(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

// std::exception_ptr::_M_release(); an exception_ptr is the pointer to its object.
void release_exception(void** pointer) noexcept
    __asm__("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
void release_exception(void** pointer) noexcept {
    static auto* release =
        in_the_library<void(void**)>("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
    let_go(*pointer);
    release(pointer);
}

void __cxxabiv1::__cxa_end_catch() {
    static auto* end_catch = in_the_library<void()>("__cxa_end_catch");
    if (std::exception_ptr caught = std::current_exception()) let_go(*reinterpret_cast<void**>(&caught));
    end_catch();
}
}

#endif
#endif
