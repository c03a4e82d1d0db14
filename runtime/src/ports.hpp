// The ends of a network: one input and one output, of the names, types and sides that the contract says, whichever
// backend runs it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine_file.hpp"

namespace signedge {

constexpr char input_name[] = "input", output_name[] = "log_probs";

struct Shape {
    static constexpr size_t most_sides = 5;
    int64_t sides[most_sides] = {};
    size_t rank = 0;
    void add(int64_t side) { sides[rank++] = side; }
    int64_t values() const {
        int64_t product = 1;
        for (size_t i = 0; i < rank; i++) {
            product *= sides[i];
        }
        return product;
    }
};

// An end as a backend found it.
struct Port {
    size_t count = 0;            // how many of this kind the network has; the rest is of the only one
    std::string name;
    bool float32 = false;
    std::vector<int64_t> sides;  // negative or 0: any
};

class Ports {
public:
    explicit Ports(const EngineFile &engine);
    // Throws Error(SIGNEDGE_BAD_FILE) that says what is not as the contract says.
    void check(const Port &input, const Port &output) const;
    Shape input(int64_t batch, int64_t frames) const;   // (batch, frames, ...)
    Shape output(int64_t batch, int64_t steps) const;   // (batch, steps, classes)

private:
    void check_port(const char *what, const Port &port, const char *name) const;

    std::string path_;
    std::vector<int64_t> frame_shape_;
    int64_t frames_;  // of the input, where it takes one length; 0: any
    int64_t classes_;
};

}  // namespace signedge
