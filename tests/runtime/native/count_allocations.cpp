// Preloaded in front of the C library: counts the heap allocations that libsignedge itself asks for, directly or through
// the C++ library, and not those of the inference library that it calls.
#include <dlfcn.h>
#include <execinfo.h>

#include <atomic>
#include <cstddef>
#include <cstring>

namespace {

using Malloc = void *(*)(size_t);
using Calloc = void *(*)(size_t, size_t);
using Realloc = void *(*)(void *, size_t);

std::atomic<bool> counting{false};
std::atomic<unsigned long> count{0};
thread_local bool inside = false;

bool named(const char *path, const char *name) { return path && std::strstr(path, name); }

// Whether the first module on the stack that is no part of the C and C++ libraries is libsignedge.
void look() {
    if (!counting || inside) {
        return;
    }
    inside = true;
    void *frames[24];
    const int depth = backtrace(frames, 24);
    for (int i = 0; i < depth; i++) {
        Dl_info info;
        if (!dladdr(frames[i], &info) || named(info.dli_fname, "count_allocations") || named(info.dli_fname, "libc.so") ||
            named(info.dli_fname, "libstdc++")) {
            continue;
        }
        count += named(info.dli_fname, "libsignedge") ? 1 : 0;
        break;
    }
    inside = false;
}

template <typename Function>
Function next(const char *name) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

extern void *__libc_calloc(size_t, size_t);  // dlsym itself allocates: it cannot ask for calloc by dlsym

void *malloc(size_t size) {
    static const Malloc real = next<Malloc>("malloc");
    look();
    return real(size);
}

void *calloc(size_t items, size_t size) {
    look();
    return __libc_calloc(items, size);
}

void *realloc(void *memory, size_t size) {
    static const Realloc real = next<Realloc>("realloc");
    look();
    return real(memory, size);
}

void start_counting() {
    void *frames[2];
    backtrace(frames, 2);  // loads what it needs now, not while counting
    count = 0;
    counting = true;
}

unsigned long stop_counting() {
    counting = false;
    return count;
}
}
