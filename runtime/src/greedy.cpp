// CTC greedy decoding: the likeliest class of each step, repeats merged, the blank dropped. Equals runtime/decode.py.
#include "decoder.hpp"
#include "posterior.hpp"

namespace signedge {

namespace {

// The likeliest class, the lowest of equals; the blank when all are impossible. Lanes let the compiler use vectors.
uint32_t likeliest(const float *row, size_t classes) {
    constexpr size_t width = 16;
    float lanes[width];
    std::fill_n(lanes, width, -std::numeric_limits<float>::infinity());
    size_t next = 0;
    for (; next + width <= classes; next += width) {
        for (size_t lane = 0; lane < width; lane++) {
            lanes[lane] = row[next + lane] > lanes[lane] ? row[next + lane] : lanes[lane];
        }
    }
    float best = *std::max_element(lanes, lanes + width);
    for (; next < classes; next++) {
        best = row[next] > best ? row[next] : best;
    }
    return log_probability(best) == impossible ? 0 : static_cast<uint32_t>(std::find(row, row + classes, best) - row);
}

// The run of steps with the same likeliest class that the last step belongs to.
struct Run {
    uint32_t label = 0;
    uint64_t start = 0, end = 0;
    double posterior = 0;

    void close(std::vector<Token> &tokens) const {
        if (label != 0) {
            tokens.push_back({label, start, end, static_cast<float>(posterior / static_cast<double>(end - start))});
        }
    }
};

class GreedyDecoder final : public Decoder {
public:
    explicit GreedyDecoder(size_t classes) : classes_(classes) {}

    void reset() override {
        run_ = {};
        score_ = 0;
        fresh.clear();
        hypotheses.clear();
    }

    void push(const float *log_probs, uint64_t steps) override {
        for (uint64_t step = 0; step < steps; step++) {
            score_ += advance(run_, log_probs + step * classes_, fresh);
        }
    }

    void finish() override {
        hypotheses.resize(1);
        hypotheses[0].score = score_;
        hypotheses[0].tokens.clear();
        run_.close(hypotheses[0].tokens);
        fresh.insert(fresh.end(), hypotheses[0].tokens.begin(), hypotheses[0].tokens.end());
        run_ = {};
    }

    void preview(const float *log_probs, uint64_t steps, std::vector<Token> &tokens) override {
        tokens.clear();
        Run run = run_;
        for (uint64_t step = 0; step < steps; step++) {
            advance(run, log_probs + step * classes_, tokens);
        }
        run.close(tokens);
    }

private:
    // Returns the log-probability of the step's class; a step where all is impossible counts as a certain blank.
    double advance(Run &run, const float *row, std::vector<Token> &tokens) const {
        const uint32_t label = likeliest(row, classes_);
        const double value = log_probability(row[label]);
        if (label != run.label) {
            run.close(tokens);
            run = {label, run.end, run.end, 0};
        }
        run.end++;
        run.posterior += probability(value);
        return value == impossible ? 0 : value;
    }

    size_t classes_;
    Run run_;
    double score_ = 0;
};

}  // namespace

std::unique_ptr<Decoder> make_greedy_decoder(size_t classes) { return std::make_unique<GreedyDecoder>(classes); }

}  // namespace signedge
