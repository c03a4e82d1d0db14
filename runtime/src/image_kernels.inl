// The inner loops of image.cpp in GCC's vector extensions. The file that includes this one says how many floats a
// vector has (LANES), and nothing here may leave that file: the linker would give one instruction set's code to all.

namespace {

using signedge::ImageColour;
using signedge::ImageSpan;

typedef uint8_t Bytes __attribute__((vector_size(LANES)));
typedef uint8_t DoubleBytes __attribute__((vector_size(LANES * 2)));
typedef uint16_t HalfWords __attribute__((vector_size(LANES * 2)));
typedef uint16_t Words __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef float Pixel __attribute__((vector_size(16)));

template <typename Vector, typename Value>
inline Vector load(const Value *from) {
    Vector vector;
    __builtin_memcpy(&vector, from, sizeof vector);
    return vector;
}

template <typename Vector, typename Value>
inline void store(const Vector &vector, Value *to) {
    __builtin_memcpy(to, &vector, sizeof vector);
}

// --- rows

inline Words widen(const uint8_t *from) { return __builtin_convertvector(load<DoubleBytes>(from), Words); }

// Adds to 2 * LANES sums what the weighted 16-bit values contribute.
inline void accumulate(const Words &values, float weight, Floats *sums) {
    HalfWords halves[2];
    store(values, halves);
    for (int half = 0; half < 2; half++) {
        sums[half] += __builtin_convertvector(__builtin_convertvector(halves[half], Ints), Floats) * weight;
    }
}

inline void finish_row(const uint8_t *const *rows, uint32_t count, const ImageSpan &weights, bool add, size_t at,
                       const Words &middle, float *to) {
    Floats sums[2] = {};
    if (add) {
        sums[0] = load<Floats>(to + at);
        sums[1] = load<Floats>(to + at + LANES);
    }
    accumulate(widen(rows[0] + at), weights.head, sums);
    accumulate(widen(rows[count - 1] + at), weights.tail, sums);
    accumulate(middle, weights.whole, sums);
    store(sums[0], to + at);
    store(sums[1], to + at + LANES);
}

inline float one_column(const uint8_t *const *rows, uint32_t count, const ImageSpan &weights, size_t at) {
    uint32_t middle = 0;
    for (uint32_t row = 1; row + 1 < count; row++) {
        middle += rows[row][at];
    }
    const float sum = rows[0][at] * weights.head + rows[count - 1][at] * weights.tail;
    return sum + static_cast<float>(middle) * weights.whole;
}

// A frame comes from a camera or a decoder and is not in the cache, and so many rows at once are more streams than a CPU
// follows by itself: asking for them a few blocks early makes it up to twice as fast.
inline void prefetch(const uint8_t *const *rows, uint32_t count, size_t at, size_t bytes) {
    const size_t ahead = 320, cache_line = 64;
    for (uint32_t row = 1; row < count; row++) {
        for (size_t line = 0; line < bytes; line += cache_line) {
            __builtin_prefetch(rows[row] + at + ahead + line);
        }
    }
}

void average_rows(const uint8_t *const *rows, uint32_t count, const ImageSpan &weights, bool add, float *sums,
                  size_t values) {
    const size_t unit = 2 * LANES;
    size_t at = 0;
    for (; at + 4 * unit <= values; at += 4 * unit) {
        prefetch(rows, count, at, 4 * unit);
        // Four sums at a time stay in registers while the rows go by.
        Words a = {}, b = {}, c = {}, d = {};
        for (uint32_t row = 1; row + 1 < count; row++) {
            const uint8_t *from = rows[row] + at;
            a += widen(from);
            b += widen(from + unit);
            c += widen(from + 2 * unit);
            d += widen(from + 3 * unit);
        }
        finish_row(rows, count, weights, add, at, a, sums);
        finish_row(rows, count, weights, add, at + unit, b, sums);
        finish_row(rows, count, weights, add, at + 2 * unit, c, sums);
        finish_row(rows, count, weights, add, at + 3 * unit, d, sums);
    }
    for (; at + unit <= values; at += unit) {
        Words middle = {};
        for (uint32_t row = 1; row + 1 < count; row++) {
            middle += widen(rows[row] + at);
        }
        finish_row(rows, count, weights, add, at, middle, sums);
    }
    for (; at < values; at++) {
        sums[at] = (add ? sums[at] : 0) + one_column(rows, count, weights, at);
    }
}

// --- columns

template <typename Value>
inline Value average(const float *from, size_t step, const ImageSpan &span) {
    Value middle = {};
    for (uint32_t column = 1; column + 1 < span.count; column++) {
        middle += load<Value>(from + column * step);
    }
    const Value edges = load<Value>(from) * span.head + load<Value>(from + (span.count - 1) * step) * span.tail;
    return (edges + middle * span.whole - 127.5f) * (1 / 127.5f);
}

void average_pixels(const float *pixels, const ImageSpan *spans, uint32_t count, float *const planes[3]) {
    for (uint32_t cell = 0; cell < count; cell++) {
        const Pixel pixel = average<Pixel>(pixels + size_t{3} * spans[cell].first, 3, spans[cell]);
        planes[0][cell] = pixel[0];
        planes[1][cell] = pixel[1];
        planes[2][cell] = pixel[2];
    }
}

void average_samples(const float *samples, const ImageSpan *spans, uint32_t count, float *plane) {
    for (uint32_t cell = 0; cell < count; cell++) {
        plane[cell] = average<float>(samples + spans[cell].first, 1, spans[cell]);
    }
}

// --- colour

// Two neighbours, an even and an odd pixel, in every 16 bits: the halves of a pair share their chroma.
inline Ints pairs(const uint8_t *from) { return __builtin_convertvector(load<HalfWords>(from), Ints); }

template <typename Value>
inline Value to_byte(Value value) {
    const Value none = {}, most = none + 255;
    value = (value + 32768) >> 16;
    value = value < 0 ? none : value;
    return value > 255 ? most : value;
}

template <typename Value>
struct Chroma {
    Value red, green, blue;
    Chroma(Value u, Value v, const ImageColour &colour)
        : red((v - 128) * colour.red_v),
          green((u - 128) * colour.green_u + (v - 128) * colour.green_v),
          blue((u - 128) * colour.blue_u) {}
};

inline void store_pairs(Ints even, Ints odd, Ints chroma, uint8_t *to) {
    store(__builtin_convertvector(to_byte(even + chroma) | (to_byte(odd + chroma) << 8), HalfWords), to);
}

void to_rgb(const uint8_t *y, const uint8_t *u, const uint8_t *v, uint32_t chroma_step, const ImageColour &colour,
            size_t pixels, uint8_t *const planes[3]) {
    size_t at = 0;
    for (; at + 2 * LANES <= pixels; at += 2 * LANES) {
        Ints us, vs;
        if (chroma_step == 2) {
            us = pairs(u + at) & 255;
            vs = pairs(u + at) >> 8;
        } else {
            us = __builtin_convertvector(load<Bytes>(u + at / 2), Ints);
            vs = __builtin_convertvector(load<Bytes>(v + at / 2), Ints);
        }
        const Chroma<Ints> chroma(us, vs, colour);
        const Ints even = ((pairs(y + at) & 255) - colour.black) * colour.luma;
        const Ints odd = ((pairs(y + at) >> 8) - colour.black) * colour.luma;
        store_pairs(even, odd, chroma.red, planes[0] + at);
        store_pairs(even, odd, chroma.green, planes[1] + at);
        store_pairs(even, odd, chroma.blue, planes[2] + at);
    }
    for (; at < pixels; at++) {
        const size_t pair = at / 2 * chroma_step;
        const Chroma<int32_t> chroma(u[pair], v[pair], colour);
        const int32_t luma = (y[at] - colour.black) * colour.luma;
        planes[0][at] = static_cast<uint8_t>(to_byte(luma + chroma.red));
        planes[1][at] = static_cast<uint8_t>(to_byte(luma + chroma.green));
        planes[2][at] = static_cast<uint8_t>(to_byte(luma + chroma.blue));
    }
}

}  // namespace
