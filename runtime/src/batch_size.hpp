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
        Table &table = of(frames);
        uint32_t best = 0;
        for (uint32_t i = 0; i < sizes && (1u << i) <= available; i++) {
            if (table.tries[i] < enough_tries) {
                return 1u << i;
            }
            best = table.fastest[i] < table.fastest[best] ? i : best;
            if (table.fastest[i] > table.fastest[best] + table.fastest[best] / 10) {
                break;  // still larger ones would only be slower
            }
        }
        return 1u << best;
    }

    // What a batch of that many took. The fastest try counts: others had company.
    void took(uint64_t frames, uint32_t clips, uint64_t ns) {
        Table &table = of(frames);
        for (uint32_t i = 0; i < sizes; i++) {
            if (clips == 1u << i) {
                table.fastest[i] = table.tries[i] ? std::min(table.fastest[i], ns / clips) : ns / clips;
                table.tries[i] += table.tries[i] < enough_tries ? 1 : 0;
            }
        }
    }

private:
    static constexpr uint32_t sizes = 7, enough_tries = 3;  // 1, 2, 4 ... 64 clips
    struct Table {
        uint64_t frames = 0, used = 0;
        std::array<uint64_t, sizes> fastest{};
        std::array<uint32_t, sizes> tries{};
    };

    // The table of that length; a new one takes the place of the one that was not used for longest.
    Table &of(uint64_t frames) {
        Table *table = &tables_[0];
        for (Table &other : tables_) {
            if (other.frames == frames) {
                other.used = ++uses_;
                return other;
            }
            table = other.used < table->used ? &other : table;
        }
        *table = Table();
        table->frames = frames;
        table->used = ++uses_;
        return *table;
    }

    std::array<Table, 16> tables_;
    uint64_t uses_ = 0;
};

}  // namespace signedge
