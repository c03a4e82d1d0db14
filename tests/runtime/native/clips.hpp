// Clips of plain colours, and what a stream is told to make of them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "signedge.h"

constexpr uint32_t side = 8, frames_a_step = 4;
constexpr int64_t period_ns = 40000000;

using Glosses = std::vector<uint32_t>;

inline void need(bool holds, const char *what) {
    if (!holds) {
        std::fprintf(stderr, "%s\n", what);
        std::exit(1);
    }
}

// Steps of darkness (0), red, green or blue, in an order of its own for each seed.
struct Clip {
    Clip(uint32_t steps, uint32_t seed) {
        for (uint32_t step = 0; step < steps; step++) {
            seed = seed * 1664525 + 1013904223;
            labels.push_back(seed >> 16 & 3);
        }
    }

    uint32_t frames() const { return static_cast<uint32_t>(labels.size()) * frames_a_step; }

    signedge_status push(signedge_stream *stream, uint32_t number) const {
        uint8_t pixels[side * side * 3] = {};
        const uint32_t label = labels[number / frames_a_step];
        for (uint32_t i = 0; label > 0 && i < side * side; i++) {
            pixels[3 * i + label - 1] = 255;
        }
        signedge_frame frame{};
        frame.struct_size = sizeof frame;
        frame.format = SIGNEDGE_PIXELS_RGB;
        frame.width = frame.height = side;
        frame.timestamp_ns = number * period_ns;
        frame.planes[0] = pixels;
        return signedge_stream_push_frame(stream, &frame);
    }

    std::vector<uint32_t> labels;
};

// Takes what is final; more than fits into one call comes with the next.
inline void take_final(signedge_stream *stream, Glosses &found) {
    signedge_gloss glosses[4];
    uint32_t count = 0, finals = 0;
    do {
        need(signedge_stream_poll(stream, glosses, sizeof glosses[0], 4, &count) == SIGNEDGE_OK, "poll failed");
        finals = 0;
        for (uint32_t i = 0; i < count && i < 4; i++) {
            if (glosses[i].flags & SIGNEDGE_GLOSS_FINAL) {
                found.push_back(glosses[i].id);
                finals++;
            }
        }
    } while (finals == 4);
}
