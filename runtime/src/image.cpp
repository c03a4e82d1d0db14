// Frames of a camera to frames of the network: rows are averaged first, as they lie, then the columns of what is left.
#include "image.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.hpp"

namespace signedge {

struct ImagePreparer::Picture {
    int32_t format;
    uint32_t x, y, width, height;  // the part to look at
    const uint8_t *planes[3];
    size_t strides[3];
    ImageColour colour;

    bool subsampled() const { return format == SIGNEDGE_PIXELS_NV12 || format == SIGNEDGE_PIXELS_I420; }
    size_t channels() const { return format == SIGNEDGE_PIXELS_GRAY ? 1 : 3; }
    // Chroma belongs to pairs of pixels: conversion starts at a whole pair, which may be one pixel early.
    size_t lead() const { return subsampled() ? x % 2 : 0; }
    size_t row_pixels() const { return lead() + width; }
    size_t row_values() const { return row_pixels() * channels(); }
};

namespace {

constexpr uint32_t max_side = 16384;
constexpr uint32_t no_row = UINT32_MAX;

// From the weights of red and blue in luma, as the standard gives them.
constexpr ImageColour colour_of(double red, double blue, bool full_range) {
    const double luma = full_range ? 1 : 255.0 / 219, chroma = full_range ? 1 : 255.0 / 224;
    const double from_v = 2 * (1 - red) * chroma, from_u = 2 * (1 - blue) * chroma, green = 1 - red - blue;
    const auto fixed = [](double factor) { return static_cast<int32_t>(factor * 65536 + (factor < 0 ? -0.5 : 0.5)); };
    return {full_range ? 0 : 16,          fixed(luma), fixed(from_v), fixed(-from_u * blue / green),
            fixed(-from_v * red / green), fixed(from_u)};
}

ImageColour colour_of(int32_t standard) {
    switch (standard) {
        case SIGNEDGE_COLOUR_BT601:
            return colour_of(0.299, 0.114, false);
        case SIGNEDGE_COLOUR_BT709:
            return colour_of(0.2126, 0.0722, false);
        case SIGNEDGE_COLOUR_BT601_FULL:
            return colour_of(0.299, 0.114, true);
        default:
            fail(SIGNEDGE_INVALID_ARGUMENT, "frame.colour is %d, which is none of SIGNEDGE_COLOUR_*", standard);
    }
}

// Bytes of a row of each plane; 0 where the format has no such plane.
struct RowBytes {
    uint32_t of[3];
};

RowBytes row_bytes(int32_t format, uint32_t width) {
    const uint32_t half = (width + 1) / 2;
    switch (format) {
        case SIGNEDGE_PIXELS_RGB:
        case SIGNEDGE_PIXELS_BGR:
            return {{3 * width, 0, 0}};
        case SIGNEDGE_PIXELS_GRAY:
            return {{width, 0, 0}};
        case SIGNEDGE_PIXELS_NV12:
            return {{width, 2 * half, 0}};
        case SIGNEDGE_PIXELS_I420:
            return {{width, half, half}};
        default:
            fail(SIGNEDGE_INVALID_ARGUMENT, "frame.format is %d, which is none of SIGNEDGE_PIXELS_*", format);
    }
}

void check_side(const char *name, uint32_t side) {
    if (side < 1 || side > max_side) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "frame.%s is %u; it must be 1 to %u", name, side, max_side);
    }
}

void check_crop(const char *axis, uint32_t from, const char *name, uint32_t size, uint32_t whole) {
    if (size < 1 || size > whole) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "frame.%s is %u; it must be 1 to the frame's %u", name, size, whole);
    }
    if (from > whole - size) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "frame.%s is %u: with a %s of %u the crop leaves the frame, which has %u", axis,
             from, name, size, whole);
    }
}

// As area_weights() of runtime/preprocess.py: the share of each source cell in what the target cell covers.
ImageSpan shrinking(uint32_t cell, double ratio, uint32_t source) {
    const double lower = cell * ratio, upper = (cell + 1) * ratio;
    const auto first = static_cast<uint32_t>(lower);
    const uint32_t end = std::min(source, static_cast<uint32_t>(std::ceil(upper - 1e-9)));
    const uint32_t count = end - first;
    if (count == 1) {
        return {first, 1, 1, 0, 0};
    }
    const double head = first + 1 - lower, tail = std::min<double>(upper, end) - (end - 1);
    const double total = head + (count - 2) + tail;
    return {first, count, static_cast<float>(head / total), static_cast<float>(1 / total),
            static_cast<float>(tail / total)};
}

// The two source cells between whose centres the target cell's centre lies.
ImageSpan enlarging(uint32_t cell, double ratio, uint32_t source) {
    const double centre = (cell + 0.5) * ratio - 0.5, low = std::floor(centre);
    if (low < 0 || low + 1 >= source) {
        return {low < 0 ? 0 : source - 1, 1, 1, 0, 0};
    }
    const double share = centre - low;
    return {static_cast<uint32_t>(low), 2, static_cast<float>(1 - share), 0, static_cast<float>(share)};
}

// `count` cells of a span from its cell `begin` on.
ImageSpan part(const ImageSpan &span, uint32_t begin, uint32_t count) {
    const bool first = begin == 0, last = begin + count == span.count;
    ImageSpan part{span.first + begin, count, first ? span.head : span.whole, span.whole,
                   last ? span.tail : span.whole};
    if (count == 1 && !first) {
        part.head = 0;  // the kernels add a lone cell as head and as tail
    }
    return part;
}

}  // namespace

ImagePreparer::ImagePreparer(uint32_t width, uint32_t height, const ImageKernels &kernels)
    : kernels_(kernels), width_(width), height_(height) {
    columns_.spans.resize(width);
    rows_.spans.resize(height);
}

void ImagePreparer::prepare(const signedge_frame &frame, float *out) {
    const Picture picture = inspect(frame);
    fit(picture);
    const size_t plane = static_cast<size_t>(width_) * height_;
    for (uint32_t row = 0; row < height_; row++) {
        average_rows(picture, rows_.spans[row]);
        float *to = out + static_cast<size_t>(width_) * row;
        float *const planes[3] = {to, to + plane, to + 2 * plane};
        average_columns(picture, planes);
    }
}

ImagePreparer::Picture ImagePreparer::inspect(const signedge_frame &frame) {
    check_side("width", frame.width);
    check_side("height", frame.height);
    const RowBytes least = row_bytes(frame.format, frame.width);
    Picture picture{frame.format, 0, 0, frame.width, frame.height, {}, {}, {}};
    for (int plane = 0; plane < 3 && least.of[plane] > 0; plane++) {
        if (frame.planes[plane] == nullptr) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "frame.planes[%d] is NULL", plane);
        }
        const uint32_t stride = frame.strides[plane] == 0 ? least.of[plane] : frame.strides[plane];
        if (stride < least.of[plane]) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "frame.strides[%d] is %u; a row of this format and width has %u bytes", plane,
                 stride, least.of[plane]);
        }
        picture.planes[plane] = frame.planes[plane];
        picture.strides[plane] = stride;
    }
    if (picture.subsampled()) {
        picture.colour = colour_of(frame.colour);
    }
    if (frame.crop_width != 0) {
        check_crop("crop_x", frame.crop_x, "crop_width", frame.crop_width, frame.width);
        check_crop("crop_y", frame.crop_y, "crop_height", frame.crop_height, frame.height);
        picture.x = frame.crop_x, picture.width = frame.crop_width;
        picture.y = frame.crop_y, picture.height = frame.crop_height;
    }
    return picture;
}

void ImagePreparer::fit(Axis &axis, uint32_t source) {
    if (axis.source == source) {
        return;
    }
    const double ratio = static_cast<double>(source) / static_cast<double>(axis.spans.size());
    for (uint32_t cell = 0; cell < axis.spans.size(); cell++) {
        axis.spans[cell] = ratio >= 1 ? shrinking(cell, ratio, source) : enlarging(cell, ratio, source);
    }
    axis.source = source;
}

void ImagePreparer::fit(const Picture &picture) {
    fit(columns_, picture.width);
    fit(rows_, picture.height);
    // The kernels load a pixel as four floats: the last one's fourth lies behind the row.
    sums_.resize(std::max(sums_.size(), picture.row_values() + 1));
    if (picture.subsampled()) {
        uint32_t longest = 1;
        for (const ImageSpan &span : rows_.spans) {
            longest = std::max(longest, span.count);
        }
        slots_ = std::min(longest, max_rows);
        lines_.resize(std::max(lines_.size(), slots_ * picture.row_values()));
        converted_.fill(no_row);
    }
}

void ImagePreparer::average_rows(const Picture &picture, const ImageSpan &span) {
    const uint8_t *lines[max_rows];
    for (uint32_t begin = 0; begin < span.count; begin += max_rows) {
        const ImageSpan group = part(span, begin, std::min(span.count - begin, max_rows));
        for (uint32_t i = 0; i < group.count; i++) {
            lines[i] = line(picture, group.first + i);
        }
        kernels_.average_rows(lines, group.count, group, begin > 0, sums_.data(), picture.row_values());
    }
}

const uint8_t *ImagePreparer::line(const Picture &picture, uint32_t row) {
    const uint8_t *const first = picture.planes[0] + picture.strides[0] * (picture.y + row);
    if (!picture.subsampled()) {
        return first + picture.channels() * picture.x;
    }
    const size_t pixels = picture.row_pixels();
    uint8_t *const to = lines_.data() + row % slots_ * picture.row_values();
    if (converted_[row % slots_] != row) {
        converted_[row % slots_] = row;
        const bool interleaved = picture.format == SIGNEDGE_PIXELS_NV12;
        const uint32_t step = interleaved ? 2 : 1;
        const size_t chroma_row = (picture.y + row) / 2, chroma_column = picture.x / 2 * step;
        const uint8_t *const u = picture.planes[1] + picture.strides[1] * chroma_row + chroma_column;
        const uint8_t *const v =
            interleaved ? u + 1 : picture.planes[2] + picture.strides[2] * chroma_row + chroma_column;
        uint8_t *const planes[3] = {to, to + pixels, to + 2 * pixels};
        kernels_.to_rgb(first + picture.x - picture.lead(), u, v, step, picture.colour, pixels, planes);
    }
    return to;
}

void ImagePreparer::average_columns(const Picture &picture, float *const planes[3]) const {
    const ImageSpan *const spans = columns_.spans.data();
    if (picture.subsampled()) {
        const size_t pixels = picture.row_pixels();
        for (int channel = 0; channel < 3; channel++) {
            kernels_.average_samples(sums_.data() + channel * pixels + picture.lead(), spans, width_, planes[channel]);
        }
    } else if (picture.format == SIGNEDGE_PIXELS_GRAY) {
        kernels_.average_samples(sums_.data(), spans, width_, planes[0]);
        std::memcpy(planes[1], planes[0], width_ * sizeof(float));
        std::memcpy(planes[2], planes[0], width_ * sizeof(float));
    } else {
        const bool reversed = picture.format == SIGNEDGE_PIXELS_BGR;
        float *const ordered[3] = {planes[reversed ? 2 : 0], planes[1], planes[reversed ? 0 : 2]};
        kernels_.average_pixels(sums_.data(), spans, width_, ordered);
    }
}

}  // namespace signedge
