// A stream: frames in, windows of them through the network, glosses out.
//
// Whole clips: one run at the end, or, of a network that takes one length, the windows that runtime/windows.py says.
//
// Windowed: after every `shift` frames a run over the last `chunk` frames, padded at
// its edges as a clip is. As long as the window reaches back to the first frame nothing is settled, so that a clip
// which fits the window gives what it gives offline. From then on a step is settled, that is given to the decoder for
// good, as the first run had it that saw `lookahead` frames behind it; later steps are decoded on trial after each run
// and shown as not final.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "batch_size.hpp"
#include "decoder.hpp"
#include "glosses.hpp"
#include "image.hpp"
#include "keypoints.hpp"
#include "model.hpp"
#include "signedge.h"

namespace signedge {

struct StreamOptions {  // resolved: no zero that means a default
    bool whole = false;
    uint32_t chunk = 256, shift = 16, lookahead = 128, queue = 64;
    int32_t when_full = SIGNEDGE_WHEN_FULL_BLOCK;
    bool resample = false;
    std::vector<std::string> joint_names;
    DecoderOptions decoder;
};

class Stream {
public:
    Stream(std::shared_ptr<Model> model, const StreamOptions &options);

    void push(const signedge_frame &frame);
    void push(const signedge_keypoints &points);
    void finish();
    void reset();
    // Run all that is ready in these streams of one model, runs of equal length in one batch.
    static void step(Stream *const *streams, uint32_t count);

    // Takes final glosses (as many as fit), then copies those that may change; returns how many there are of both.
    uint32_t poll(const GlossArray &out);
    uint32_t nbest(uint32_t rank, const GlossArray &out, double &score) const;
    signedge_statistics statistics() const;
    const Model *model() const { return model_.get(); }

    // Room for the list of streams of a step that this one leads, kept from step to step.
    std::vector<Stream *> &companions() { return companions_; }

private:
    struct Window {  // frames [begin, end) of the stream, padded to so many
        uint64_t begin = 0, end = 0, padded = 0;
    };
    struct Run {  // one call of the network, for streams that stand one behind the other in members_
        uint32_t first = 0, count = 0;
        uint64_t padded = 0, ns = 0;
        std::exception_ptr failure;
    };
    struct Trial {  // a gloss that may change, and how many runs have kept it
        Token token;
        uint32_t kept = 0;
    };

    struct Grid {  // instants of the model's frame rate: the first one, and how many have passed
        int64_t start = 0;
        uint64_t next = 0;
    };
    struct Instants {
        uint64_t count = 0;
        Grid after;
    };

    template <typename Prepare>
    void take(int64_t timestamp, Prepare prepare);
    Instants due(int64_t timestamp) const;
    void copy_frames(uint64_t from, uint64_t count, uint64_t to);
    void make_room(uint64_t frames);
    void check_size(uint64_t frames, uint64_t steps) const;
    void reserve(uint64_t frames);
    void make_room_for_glosses(uint64_t steps);
    void drop_oldest();
    void let_go();
    uint64_t most_waiting() const { return uint64_t{options_.shift} + options_.queue; }
    uint64_t waiting() const { return frames_ - run_end_; }
    float *slot(uint64_t frame) { return buffer_.data() + (before_ + frame - base_) * frame_values_; }
    float *raw_slot(uint64_t frame) { return raw_.data() + (frame - base_) * keypoints_->raw_values(); }

    // Frames from the end of the last run to that of the next, before the end is near. A whole clip's first is full.
    uint64_t hop() const { return options_.whole && run_end_ == 0 ? options_.chunk : options_.shift; }
    // Whether the window that ends at a frame still begins at the first.
    bool reaches_back(uint64_t end) const { return options_.chunk == 0 || end <= options_.chunk; }
    uint64_t most_edge() const;
    bool ready() const;
    Window next_window() const;
    static bool plan(Stream *const *streams, uint32_t count);
    uint32_t batch(const Window &window, uint32_t streams);
    static void run(Run &run, Stream *const *streams);
    void run_alone(const Window &window, uint64_t steps, uint64_t &run_ns);
    static void run_together(Stream *const *group, uint32_t count, uint64_t padded, uint64_t steps, uint64_t &run_ns);
    void fill_edges(const Window &window, float *clip) const;
    void absorb(const Window &window);
    void settle(uint64_t steps);
    void conclude();
    void compare();
    signedge_gloss gloss(const Token &token, uint32_t flags, float stability) const;
    int64_t time_of(uint64_t frame) const;

    std::shared_ptr<Model> model_;
    StreamOptions options_;
    std::unique_ptr<ImagePreparer> image_;
    std::unique_ptr<KeypointPreparer> keypoints_;
    std::unique_ptr<Decoder> decoder_;
    uint64_t frame_values_, classes_, stride_, before_, behind_;

    // Prepared frames [base_, frames_), with room before and behind them where a run writes its padding. raw_ has the same
    // frames' points as they came. Older frames are let go when the buffer is full.
    std::vector<float> buffer_, raw_, edge_;
    uint64_t capacity_ = 0, base_ = 0, frames_ = 0;
    std::vector<int64_t> times_;  // of frame i at i % size
    int64_t first_time_ = 0, last_time_ = 0;
    Grid grid_;
    bool started_ = false, finished_ = false, complete_ = false;

    uint64_t run_end_ = 0;                    // frames that the last run saw
    std::vector<float> posteriors_, output_;  // of the last run, from its first step; where the next one writes
    uint64_t posteriors_begin_ = 0, posteriors_end_ = 0, settled_ = 0;
    // Of a step that this stream leads: its streams, its runs and who is in them.
    std::vector<Stream *> companions_, members_;
    std::vector<Run> runs_;
    BatchSize batch_size_;
    std::vector<float> batch_input_, batch_output_;
    bool planned_ = false;  // in this round of a step

    std::vector<Trial> trial_, trial_before_;
    std::vector<Token> preview_;
    std::vector<signedge_gloss> final_;
    size_t taken_ = 0;  // of final_
    signedge_statistics counts_{};
};

}  // namespace signedge
