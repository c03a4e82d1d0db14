// Every bit of what libsignedge computes outside of networks and pictures: a machine's print is that of every other.
#include <cstdio>
#include <cstring>

#include "decoder.hpp"
#include "keypoints.hpp"

using namespace signedge;

namespace {

// 0 to 1 in steps that float holds exactly, so that the input is the same everywhere.
class Noise {
public:
    float next() {
        state_ = state_ * 1664525u + 1013904223u;
        return static_cast<float>(state_ >> 16) / 65536;
    }

private:
    uint32_t state_ = 1;
};

void print(const char *what, double value) { std::printf("%s %a\n", what, value); }

void print_features(Noise &noise) {
    Contract contract;
    contract.name = "skeleton";
    contract.layout = {"nose", "left_shoulder", "right_shoulder", "left_wrist", "right_wrist"};
    contract.joints = {0, 3, 4};
    contract.roots = {0, 1, 2};
    contract.origin = contract.scale = {1, 2};
    KeypointPreparer preparer(contract, {});
    std::vector<float> points(3 * contract.layout.size()), raw(preparer.raw_values()), out(5 * contract.joints.size());
    for (int frame = 0; frame < 300; frame++) {
        for (float &value : points) {
            value = noise.next();
        }
        signedge_keypoints keypoints{};
        keypoints.struct_size = sizeof keypoints;
        keypoints.joints = preparer.joints();
        keypoints.points = points.data();
        keypoints.x_scale = 1 / 3.0f;
        preparer.read(keypoints, raw.data());
        preparer.prepare(raw.data(), out.data());
        for (const float value : out) {
            print("feature", static_cast<double>(value));
        }
    }
}

void print_scores(Noise &noise, const DecoderOptions &options) {
    constexpr size_t classes = 40, steps = 60;
    const std::vector<std::string> glosses(classes, "G");
    const auto decoder = make_decoder(glosses, options);
    std::vector<float> log_probs(classes * steps);
    for (int clip = 0; clip < 30; clip++) {
        for (float &value : log_probs) {
            value = -8 * noise.next();
        }
        decoder->reset();
        decoder->push(log_probs.data(), steps);
        decoder->finish();
        for (const Token &token : decoder->fresh) {
            std::printf("%u %u %u\n", token.id, static_cast<unsigned>(token.start), static_cast<unsigned>(token.end));
            print("confidence", static_cast<double>(token.confidence));
        }
        decoder->fresh.clear();
        for (const Hypothesis &hypothesis : decoder->hypotheses) {
            print("score", hypothesis.score);
        }
    }
}

}  // namespace

int main() {
    Noise noise;
    DecoderOptions beam;
    beam.kind = SIGNEDGE_DECODER_BEAM;
    beam.nbest = 5;
    beam.gloss_bonus = 0.3f;
    print_features(noise);
    print_scores(noise, {});
    print_scores(noise, beam);
}
