// Counts what a program's C++ code asks of the heap. For one source of a program: it replaces operator new.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

static uint64_t allocations = 0;

// Not inlined, so that memory checkers see whole pairs of them.
__attribute__((noinline)) void *operator new(size_t size) {
    allocations++;
    if (void *memory = std::malloc(size)) {
        return memory;
    }
    throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void *memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void *memory, size_t) noexcept { std::free(memory); }
