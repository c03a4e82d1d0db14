// The ends of a network, compared with its contract.
#include "ports.hpp"

#include "error.hpp"
#include "text.hpp"

namespace signedge {
namespace {

bool is_any_or(int64_t side, int64_t expected) { return side <= 0 || side == expected; }

}  // namespace

Ports::Ports(const EngineFile &engine)
    : path_(shown(engine.path, 400)), frame_shape_(engine.contract.frame_shape()),
      frames_(engine.contract.padding.frames ? static_cast<int64_t>(engine.contract.padding.total(1)) : 0),
      classes_(static_cast<int64_t>(engine.contract.glosses.size())) {}

void Ports::check(const Port &input, const Port &output) const {
    check_port("input", input, input_name);
    check_port("output", output, output_name);
    if (input.sides.size() > 1 && (!is_any_or(input.sides[0], 1) || !is_any_or(input.sides[1], frames_))) {
        const std::string wanted = frames_ ? std::to_string(frames_) + " frames, padding included" : "any length";
        fail(SIGNEDGE_BAD_FILE, "%s is made for %lld clips of %lld frames (-1: any); needed: 1 or any, of %s",
             path_.c_str(), static_cast<long long>(input.sides[0]), static_cast<long long>(input.sides[1]),
             wanted.c_str());
    }
    if (output.sides.size() != 3) {
        fail(SIGNEDGE_BAD_FILE, "%s: its output is not (batch, steps, classes)", path_.c_str());
    }
    if (!is_any_or(output.sides[2], classes_)) {
        fail(SIGNEDGE_BAD_FILE, "%s gives %lld classes; its contract names %lld (blank included)", path_.c_str(),
             static_cast<long long>(output.sides[2]), static_cast<long long>(classes_));
    }
    bool fits = input.sides.size() == 2 + frame_shape_.size();
    for (size_t i = 0; fits && i < frame_shape_.size(); i++) {
        fits = is_any_or(input.sides[2 + i], frame_shape_[i]);
    }
    if (!fits) {
        fail(SIGNEDGE_BAD_FILE, "%s: its input has not the shape that its contract says", path_.c_str());
    }
}

Shape Ports::input(int64_t batch, int64_t frames) const {
    Shape shape;
    shape.add(batch);
    shape.add(frames);
    for (const int64_t side : frame_shape_) {
        shape.add(side);
    }
    return shape;
}

Shape Ports::output(int64_t batch, int64_t steps) const {
    Shape shape;
    shape.add(batch);
    shape.add(steps);
    shape.add(classes_);
    return shape;
}

void Ports::check_port(const char *what, const Port &port, const char *name) const {
    if (port.count != 1 || port.name != name) {
        fail(SIGNEDGE_BAD_FILE, "%s must have one %s, '%s'; it has %zu%s%s", path_.c_str(), what, name, port.count,
             port.count == 1 ? ", " : "", port.count == 1 ? shown(port.name).c_str() : "");
    }
    if (!port.float32) {
        fail(SIGNEDGE_BAD_FILE, "%s: its %s is not a tensor of float32", path_.c_str(), what);
    }
}

}  // namespace signedge
