// Frames of a camera to frames of the network: colour, crop, antialiased resize, scaling. Equals runtime/preprocess.py.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "image_kernels.hpp"
#include "signedge.h"

namespace signedge {

// Prepares frames for one size of the network. It keeps its memory: once it has seen the largest frame it allocates none.
//
// NV12 and I420 become 8-bit RGB first, as a video decoder would have given it: each chroma value serves the two by two
// pixels that it covers, the factors have 16 bits of fraction, and the result is rounded to nearest and clamped.
class ImagePreparer {
public:
    ImagePreparer(uint32_t width, uint32_t height,  // of the network
                  const ImageKernels &kernels = *find_image_kernels());
    // out: (3, height, width) float32, value / 127.5 - 1, RGB. Throws Error(SIGNEDGE_INVALID_ARGUMENT) naming the field.
    // `frame` has been copied into a struct of this version's size; fields that the caller's lacked are zero.
    void prepare(const signedge_frame &frame, float *out);

private:
    struct Picture;
    struct Axis {  // one direction of the resize
        uint32_t source = 0;
        std::vector<ImageSpan> spans;  // one for each target cell
    };
    static Picture inspect(const signedge_frame &frame);
    static void fit(Axis &axis, uint32_t source);
    void fit(const Picture &picture);
    void average_rows(const Picture &picture, const ImageSpan &span);
    const uint8_t *line(const Picture &picture, uint32_t row);
    void average_columns(const Picture &picture, float *const planes[3]) const;

    const ImageKernels &kernels_;
    uint32_t width_, height_;
    Axis rows_, columns_;
    std::vector<float> sums_;                  // one row, averaged downwards only
    std::vector<uint8_t> lines_;               // converted rows, where the format is not of packed pixels: row i lies in
    uint32_t slots_ = 1;                       // slot i % slots_, if converted_ says so
    std::array<uint32_t, max_rows> converted_;
};

// The instruction set that `prepare` uses on this CPU: "avx512", "avx2", "neon", "generic".
const char *image_instruction_set();

}  // namespace signedge
