// The most probable single alignments of prefixes with the steps: when each gloss was signed, and how surely.
#pragma once

#include <cstdint>

#include "pool.hpp"
#include "posterior.hpp"

namespace signedge {

// The steps of one gloss.
struct Span {
    uint64_t start = 0, end = 0;  // end excluded
    double posterior = 0;         // summed over the steps
};

// One way through the steps that spells a prefix: the span of its last gloss, and those before as a chain.
struct Alignment {
    double score = impossible;  // log
    Span span;
    uint32_t past = none;
};

// Spans that are over, shared by all alignments that went on from there. A chain ends before the first gloss that is
// not final.
class PastSpans {
public:
    void reserve(size_t spans) { spans_.reserve(spans); }
    void clear() { spans_.clear(); }

    // The chain of an alignment with its last gloss, which is number `depth`, added. The caller owns one use of it.
    uint32_t add(const Alignment &alignment, uint32_t depth) {
        retain(alignment.past);
        return spans_.add({alignment.span, depth, alignment.past, 1});
    }

    void retain(uint32_t index) {
        if (index != none) {
            spans_[index].uses++;
        }
    }

    void release(uint32_t index) {
        while (index != none && --spans_[index].uses == 0) {
            const uint32_t before = spans_[index].before;
            spans_.free(index);
            index = before;
        }
    }

    // Span of gloss number `depth` in an alignment whose last gloss is number `last`.
    const Span &span(const Alignment &alignment, uint32_t last, uint32_t depth) const {
        if (depth == last) {
            return alignment.span;
        }
        uint32_t index = alignment.past;
        while (spans_[index].depth != depth) {
            index = spans_[index].before;
        }
        return spans_[index].span;
    }

    const Span &operator[](uint32_t index) const { return spans_[index].span; }
    uint32_t before(uint32_t index) const { return spans_[index].before; }

    // Forget gloss number `depth`, the first of a chain that starts at `chain`.
    void cut(uint32_t &chain, uint32_t depth) {
        uint32_t *link = &chain;
        while (*link != none && spans_[*link].depth != depth) {
            link = &spans_[*link].before;
        }
        release(*link);
        *link = none;
    }

private:
    struct Past {
        Span span;
        uint32_t depth, before, uses;
    };
    Pool<Past> spans_;
};

}  // namespace signedge
