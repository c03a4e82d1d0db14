// A door to ImagePreparer and KeypointPreparer for Python: the C ABI shows what they make only through a network.
#include <cstring>

#include "allocations.hpp"
#include "error.hpp"
#include "image.hpp"
#include "keypoints.hpp"

using namespace signedge;

namespace {

std::vector<std::string> strings(const char *const *texts, uint32_t count) { return {texts, texts + count}; }

std::vector<uint32_t> indices(const uint32_t *values, uint32_t count) { return {values, values + count}; }

template <typename Work>
int32_t guard(char *message, uint32_t capacity, Work work) {
    try {
        work();
        return SIGNEDGE_OK;
    } catch (const Error &error) {
        std::strncpy(message, error.what(), capacity - 1);
        return error.status;
    }
}

}  // namespace

extern "C" {

uint64_t driver_allocations() { return allocations; }

const char *driver_instruction_set() { return image_instruction_set(); }

// instruction_set NULL: the fastest. NULL comes back when this CPU has not that one.
ImagePreparer *image_create(uint32_t width, uint32_t height, const char *instruction_set) {
    const ImageKernels *kernels = find_image_kernels(instruction_set);
    return kernels == nullptr ? nullptr : new ImagePreparer(width, height, *kernels);
}

void image_destroy(ImagePreparer *preparer) { delete preparer; }

int32_t image_prepare(ImagePreparer *preparer, const signedge_frame *frame, float *out, char *message,
                      uint32_t capacity) {
    return guard(message, capacity, [&] { preparer->prepare(*frame, out); });
}

struct driver_contract {
    const char *const *layout;
    const uint32_t *joints, *roots, *origin, *scale;
    uint32_t layout_count, joint_count, origin_count, scale_count;
};

int32_t keypoints_create(const driver_contract *spec, const char *const *names, uint32_t count,
                         KeypointPreparer **preparer, char *message, uint32_t capacity) {
    Contract contract;
    contract.name = "skeleton";
    contract.layout = strings(spec->layout, spec->layout_count);
    contract.joints = indices(spec->joints, spec->joint_count);
    contract.roots = indices(spec->roots, spec->joint_count);
    contract.origin = indices(spec->origin, spec->origin_count);
    contract.scale = indices(spec->scale, spec->scale_count);
    return guard(message, capacity, [&] { *preparer = new KeypointPreparer(contract, strings(names, count)); });
}

void keypoints_destroy(KeypointPreparer *preparer) { delete preparer; }

void keypoints_reset(KeypointPreparer *preparer) { preparer->reset(); }

uint32_t keypoints_raw_values(const KeypointPreparer *preparer) { return preparer->raw_values(); }

int32_t keypoints_read(const KeypointPreparer *preparer, const signedge_keypoints *points, float *raw, char *message,
                       uint32_t capacity) {
    return guard(message, capacity, [&] { preparer->read(*points, raw); });
}

int32_t keypoints_prepare(KeypointPreparer *preparer, float *raw, float *out) { return preparer->prepare(raw, out); }

void keypoints_redo(const KeypointPreparer *preparer, const float *raw, float *out, uint64_t count) {
    preparer->redo(raw, out, count);
}

}  // extern "C"
