// The glosses that a step may add to a prefix: the likeliest ones, if they are likely enough.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "posterior.hpp"

namespace signedge {

struct LikelyClass {
    float value;  // log-probability
    uint32_t label;
};

// Likelier first; the lower one of equals.
inline bool operator<(const LikelyClass &a, const LikelyClass &b) {
    return a.value > b.value || (a.value == b.value && a.label < b.label);
}

class LikelyClasses {
public:
    LikelyClasses(size_t classes, uint32_t most, float threshold)
        : classes_(classes), most_(std::min<size_t>(most, classes - 1)), threshold_(threshold) {
        found_.reserve(2 * most_);
    }

    // The `most` likeliest glosses, those below the threshold left out; the blank is none of them. The likeliest class
    // of all is always in, if it is a gloss: a step without any class above the threshold still says something.
    const std::vector<LikelyClass> &of(const float *row) {
        found_.clear();
        bound_ = threshold_;
        size_t next = 1;
        for (; next + width <= classes_; next += width) {
            if (any_of(row + next)) {
                take(row, next, next + width);
            }
        }
        take(row, next, classes_);
        cut();
        if (found_.empty() && !(row[0] >= threshold_)) {
            take_likeliest(row);
        }
        std::sort(found_.begin(), found_.end());
        return found_;
    }

private:
    static constexpr size_t width = 16;

    // Most blocks hold nothing of interest. Without a branch inside, the compiler compares a block at once.
    bool any_of(const float *values) const {
        int any = 0;
        for (size_t i = 0; i < width; i++) {
            any |= values[i] >= bound_;
        }
        return any != 0;
    }

    void take(const float *row, size_t begin, size_t end) {
        for (size_t label = begin; label < end; label++) {
            if (row[label] >= bound_) {
                if (found_.size() == 2 * most_) {
                    cut();
                    bound_ = std::nextafter(found_[most_ - 1].value, std::numeric_limits<float>::infinity());
                    label--;
                    continue;
                }
                found_.push_back({row[label], static_cast<uint32_t>(label)});
            }
        }
    }

    void cut() {
        if (found_.size() > most_) {
            std::nth_element(found_.begin(), found_.begin() + static_cast<std::ptrdiff_t>(most_) - 1, found_.end());
            found_.resize(most_);
        }
    }

    void take_likeliest(const float *row) {
        LikelyClass best{-std::numeric_limits<float>::infinity(), 0};
        for (size_t label = 0; label < classes_; label++) {
            if (row[label] > best.value) {
                best = {row[label], static_cast<uint32_t>(label)};
            }
        }
        if (best.label != 0) {
            found_.push_back(best);
        }
    }

    size_t classes_, most_;
    float threshold_, bound_ = 0;
    std::vector<LikelyClass> found_;
};

}  // namespace signedge
