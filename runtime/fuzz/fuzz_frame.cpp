// Frames with whatever fields, in memory of exactly the size that they claim: each is refused, or gives values in -1..1.
#include <memory>
#include <vector>

#include "image.hpp"
#include "input.hpp"
#include "refused.hpp"

namespace {

constexpr size_t most_bytes = 1 << 20;  // of a plane that the fuzzer may ask for

using Planes = std::vector<std::unique_ptr<uint8_t[]>>;

uint32_t side(fuzz::Input &input) { return input.one_in(16) ? input.take<uint32_t>() : input.between(1, 300); }

// The bytes from the first to the last one that the frame says are its own; 0 where there is none such.
size_t plane_bytes(const signedge_frame &frame, int plane) {
    const bool is_packed = frame.format == SIGNEDGE_PIXELS_RGB || frame.format == SIGNEDGE_PIXELS_BGR;
    const bool is_halved = plane > 0 && (frame.format == SIGNEDGE_PIXELS_NV12 || frame.format == SIGNEDGE_PIXELS_I420);
    const size_t columns = is_halved ? (size_t{frame.width} + 1) / 2 : frame.width;
    const size_t rows = is_halved ? (size_t{frame.height} + 1) / 2 : frame.height;
    const size_t row = columns * (is_packed ? 3 : is_halved && frame.format == SIGNEDGE_PIXELS_NV12 ? 2 : 1);
    const size_t stride = frame.strides[plane] == 0 ? row : frame.strides[plane];
    return rows == 0 ? 0 : stride * (rows - 1) + row;
}

signedge_frame take_frame(fuzz::Input &input, Planes &planes) {
    signedge_frame frame{};
    frame.struct_size = sizeof frame;
    frame.format = input.one_in(16) ? input.take<int32_t>() : static_cast<int32_t>(input.between(1, 5));
    frame.width = side(input);
    frame.height = side(input);
    frame.colour = input.one_in(16) ? input.take<int32_t>() : static_cast<int32_t>(input.between(0, 2));
    if (input.one_in(2)) {
        frame.crop_x = input.between(0, 300);
        frame.crop_y = input.between(0, 300);
        frame.crop_width = side(input);
        frame.crop_height = side(input);
    }
    for (int plane = 0; plane < 3; plane++) {
        frame.strides[plane] = input.one_in(2) ? side(input) * input.between(1, 3) : 0;
        const size_t bytes = plane_bytes(frame, plane);
        if (bytes > most_bytes || input.one_in(32)) {
            continue;  // NULL: refused
        }
        planes.emplace_back(new uint8_t[bytes]);
        std::memset(planes.back().get(), input.take<uint8_t>(), bytes);
        for (size_t i = 0; i < bytes && i < 64; i++) {
            planes.back()[bytes - 1 - i] = input.take<uint8_t>();
        }
        frame.planes[plane] = planes.back().get();
    }
    return frame;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz::Input input(data, size);
    const char *const names[] = {nullptr, "generic", "avx2", "avx512"};
    const signedge::ImageKernels *kernels = signedge::find_image_kernels(names[input.between(0, 3)]);
    if (kernels == nullptr) {
        return 0;
    }
    const uint32_t width = input.between(1, 64), height = input.between(1, 64);
    signedge::ImagePreparer preparer(width, height, *kernels);
    while (!input.is_empty()) {
        Planes planes;
        const signedge_frame frame = take_frame(input, planes);
        std::unique_ptr<float[]> out(new float[size_t{3} * width * height]);
        const bool taken =
            fuzz::take_or_refuse(SIGNEDGE_INVALID_ARGUMENT, [&] { preparer.prepare(frame, out.get()); });
        for (size_t i = 0; taken && i < size_t{3} * width * height; i++) {
            fuzz::need(out[i] >= -1.00001f && out[i] <= 1.00001f);
        }
    }
    return 0;
}
