// How many clips to run in one batch: what was fastest a clip when each size was tried. A batch saves the cost of a run
// and spends the processor's cache, so the best size belongs to the network, the clip's length and the machine.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace signedge {

class BatchSize {
public:
    // Clips for the next batch of so many frames each, of `available` that are ready (1 or more).
    uint32_t next(uint64_t frames, uint32_t available) {
        if (frames != frames_) {
            *this = BatchSize();
            frames_ = frames;
        }
        uint32_t best = 0;
        for (uint32_t i = 0; i < sizes && (1u << i) <= available; i++) {
            if (tries_[i] < enough_tries) {
                return 1u << i;
            }
            best = fastest_[i] < fastest_[best] ? i : best;
            if (fastest_[i] > fastest_[best] + fastest_[best] / 10) {
                break;  // still larger ones would only be slower
            }
        }
        return 1u << best;
    }

    // What a batch of that many took. The fastest try counts: others had company.
    void took(uint32_t clips, uint64_t ns) {
        for (uint32_t i = 0; i < sizes; i++) {
            if (clips == 1u << i) {
                fastest_[i] = tries_[i] ? std::min(fastest_[i], ns / clips) : ns / clips;
                tries_[i] += tries_[i] < enough_tries ? 1 : 0;
            }
        }
    }

private:
    static constexpr uint32_t sizes = 7, enough_tries = 3;  // 1, 2, 4 ... 64 clips
    uint64_t frames_ = 0;
    std::array<uint64_t, sizes> fastest_{};
    std::array<uint32_t, sizes> tries_{};
};

}  // namespace signedge
