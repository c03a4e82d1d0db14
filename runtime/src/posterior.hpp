// Values of a network's output as the decoders read them: whatever the network gives, results stay defined.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

namespace signedge {

constexpr double impossible = -std::numeric_limits<double>::infinity();

// Not a number counts as impossible; plus infinity is held down so that no difference of scores is undefined.
inline double log_probability(float value) {
    return std::isnan(value) ? impossible : std::min(value, FLT_MAX);
}

inline double probability(double log_probability) { return std::exp(std::min(log_probability, 0.0)); }

}  // namespace signedge
