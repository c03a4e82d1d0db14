// Keypoints of whatever values for contracts of whatever joints: no feature is NaN, and frames that are prepared again
// do not change unless something was seen for the first time.
#include <algorithm>
#include <memory>
#include <vector>

#include "input.hpp"
#include "keypoints.hpp"
#include "refused.hpp"

namespace {

std::vector<uint32_t> take_joints(fuzz::Input &input, size_t layout, uint32_t least, uint32_t most) {
    std::vector<uint32_t> joints(input.between(least, most));
    for (uint32_t &joint : joints) {
        joint = input.between(0, static_cast<uint32_t>(layout) - 1);
    }
    return joints;
}

signedge::Contract take_contract(fuzz::Input &input) {
    signedge::Contract contract;
    contract.name = "fuzzed";
    contract.input = signedge::Contract::Input::keypoints;
    for (uint32_t i = 0, count = input.between(1, 12); i < count; i++) {
        contract.layout.push_back(std::to_string(i));
    }
    contract.joints = take_joints(input, contract.layout.size(), 1, 12);
    contract.roots = take_joints(input, contract.layout.size(), 12, 12);
    contract.roots.resize(contract.joints.size());
    contract.origin = take_joints(input, contract.layout.size(), 1, 3);
    contract.scale = take_joints(input, contract.layout.size(), 2, 2);
    contract.scale.resize(input.one_in(2) ? 2 : 0);
    return contract;
}

std::vector<std::string> take_names(fuzz::Input &input) {
    std::vector<std::string> names;
    for (uint32_t i = 0, count = input.one_in(2) ? input.between(8, 16) : 0; i < count; i++) {
        names.push_back(std::to_string(input.one_in(8) ? input.between(0, 20) : i));
    }
    return names;
}

float take_value(fuzz::Input &input) {
    const uint8_t kind = input.take<uint8_t>();
    return kind < 64 ? 0 : kind < 128 ? input.take<float>() : static_cast<float>(kind) / 256;
}

void check(const std::vector<float> &features) {
    fuzz::need(std::none_of(features.begin(), features.end(), [](float value) { return value != value; }));
}

void push(fuzz::Input &input, const signedge::Contract &contract, signedge::KeypointPreparer &preparer) {
    const size_t raw_size = preparer.raw_values(), size = contract.joints.size() * 5;
    std::vector<float> raw, features;
    for (uint32_t frame = 0; frame < 40 && !input.is_empty(); frame++) {
        const uint32_t joints = preparer.joints();
        std::unique_ptr<float[]> points(new float[size_t{3} * joints]);
        std::generate_n(points.get(), 3 * joints, [&] { return take_value(input); });
        signedge_keypoints given{sizeof given, input.one_in(32) ? input.take<uint32_t>() : joints,
                                 input.one_in(32) ? nullptr : points.get(), 0, take_value(input), take_value(input)};
        raw.resize((frame + 1) * raw_size);
        features.resize((frame + 1) * size);
        float *const present = raw.data() + frame * raw_size;
        if (!fuzz::take_or_refuse(SIGNEDGE_INVALID_ARGUMENT, [&] { preparer.read(given, present); })) {
            std::fill_n(present, raw_size, 0.0f);
        }
        const bool is_first_sight = preparer.prepare(present, features.data() + frame * size);
        const std::vector<float> before = features;
        preparer.redo(raw.data(), features.data(), frame);
        fuzz::need(is_first_sight || features == before);
        check(features);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz::Input input(data, size);
    const signedge::Contract contract = take_contract(input);
    fuzz::take_or_refuse(SIGNEDGE_INVALID_ARGUMENT, [&] {
        signedge::KeypointPreparer preparer(contract, take_names(input));
        push(input, contract, preparer);
        preparer.reset();
        push(input, contract, preparer);
    });
    return 0;
}
