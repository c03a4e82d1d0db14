// Which of the compiled kernels this CPU can run.
#include <cstring>

#include "image.hpp"

namespace signedge {
namespace {

struct Candidate {
    const ImageKernels *kernels;
    bool runs;
};

}  // namespace

const ImageKernels *find_image_kernels(const char *name) {
    const Candidate candidates[] = {
#if defined(__x86_64__)
        {&image_kernels_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                                    __builtin_cpu_supports("fma")},
        {&image_kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
        {&image_kernels_generic, true},
    };
    for (const Candidate &candidate : candidates) {
        if (candidate.runs && (name == nullptr || std::strcmp(name, candidate.kernels->name) == 0)) {
            return candidate.kernels;
        }
    }
    return nullptr;
}

const char *image_instruction_set() { return find_image_kernels()->name; }

}  // namespace signedge
