// Streams: buffering, windows, settling, and the glosses as they stand.
#include "stream.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>

#include "error.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr uint64_t first_capacity = 256;           // frames of a whole clip before the buffer grows
constexpr uint64_t kept_times = 4096;              // timestamps beyond the window, for glosses that began long ago
constexpr uint64_t batch_values = 4 * 1024 * 1024; // floats of a batch: larger ones gain nothing and cost memory
constexpr uint64_t longest_gap = 64;               // frames that resampling fills with copies
constexpr uint64_t most_values = uint64_t{1} << 30; // floats of a new stream: 4 GiB

uint64_t now_ns() {
    using namespace std::chrono;
    return static_cast<uint64_t>(duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

// Adds the time until it goes out of scope.
class Stopwatch {
public:
    explicit Stopwatch(uint64_t &total) : total_(total), start_(now_ns()) {}
    ~Stopwatch() { total_ += now_ns() - start_; }
    Stopwatch(const Stopwatch &) = delete;
    Stopwatch &operator=(const Stopwatch &) = delete;

private:
    uint64_t &total_;
    uint64_t start_;
};

// Of timestamps in this order, however far apart.
double seconds_between(int64_t start, int64_t end) {
    return static_cast<double>(static_cast<uint64_t>(end) - static_cast<uint64_t>(start)) * 1e-9;
}

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Room for more items, so that adding them cannot fail; it at least doubles.
template <typename Item>
void make_room_for(uint64_t more, std::vector<Item> &items) {
    if (items.capacity() - items.size() < more) {
        items.reserve(std::max<size_t>(2 * items.capacity(), items.size() + more));
    }
}

bool overlap(const Token &a, const Token &b) { return a.id == b.id && a.start < b.end && b.start < a.end; }

}  // namespace

Stream::Stream(std::shared_ptr<Model> model, const StreamOptions &options)
    : model_(std::move(model)), options_(options), classes_(model_->contract.glosses.size()) {
    const Contract &contract = model_->contract;
    frame_values_ = contract.frame_values();
    stride_ = contract.frame_stride;
    before_ = contract.padding.left;
    // Only windows that the stream has not filled yet are padded by more than a step: whole clips have room for those.
    behind_ = contract.padding.right +
              (options_.whole ? contract.padding.multiple
                              : std::max(contract.padding.multiple, contract.padding.frames));
    if (!options_.whole) {
        if (options_.chunk % stride_ || options_.shift % stride_ || options_.lookahead % stride_) {
            fail(SIGNEDGE_INVALID_ARGUMENT,
                 "chunk %u, shift %u and lookahead %u must be multiples of the %llu frames a step", options_.chunk,
                 options_.shift, options_.lookahead, static_cast<unsigned long long>(stride_));
        }
        if (uint64_t{options_.shift} + options_.lookahead > options_.chunk) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "shift %u and lookahead %u must fit into the chunk of %u frames together",
                 options_.shift, options_.lookahead, options_.chunk);
        }
    }
    if (contract.input == Contract::Input::rgb) {
        image_ = std::make_unique<ImagePreparer>(contract.width, contract.height);
    } else {
        keypoints_ = std::make_unique<KeypointPreparer>(contract, options_.joint_names);
    }
    decoder_ = make_decoder(contract.glosses, options_.decoder);

    const uint64_t queued = most_waiting() + longest_gap;
    const uint64_t frames = options_.whole ? std::max<uint64_t>(first_capacity, options_.chunk)
                                           : options_.chunk + options_.chunk / 2 + queued;
    const uint64_t steps = options_.whole ? first_capacity / stride_ : options_.chunk / stride_;
    check_size(frames, steps);
    reserve(frames);
    times_.resize(options_.whole ? frames : options_.chunk + queued + kept_times);
    edge_.resize(most_edge() * frame_values_);
    posteriors_.reserve(steps * classes_);
    output_.reserve(steps * classes_);
    final_.reserve(4 * steps);
    make_room_for_glosses(steps);
}

// An engine or a program that asks for absurd windows is refused before the memory is asked for: some systems promise
// any amount, and end the program once it is used.
void Stream::check_size(uint64_t frames, uint64_t steps) const {
    const uint64_t raw_values = keypoints_ ? keypoints_->raw_values() : 0;
    const uint64_t values =
        (frames + before_ + behind_ + most_edge()) * frame_values_ + frames * raw_values + 2 * steps * classes_;
    if (values > most_values) {
        fail(SIGNEDGE_OUT_OF_MEMORY, "a stream of '%s' that holds %llu frames would take more than %llu GiB: ask for a "
             "smaller chunk, shift or queue", shown(model_->contract.name, 200).c_str(),
             static_cast<unsigned long long>(frames), static_cast<unsigned long long>(most_values >> 28));
    }
}

// All that the glosses of a run of so many steps can need. What comes after cannot fail halfway.
void Stream::make_room_for_glosses(uint64_t steps) {
    const uint64_t most = steps + 2 * most_undecided + 2;
    make_room_for(most, decoder_->fresh);
    make_room_for(decoder_->fresh.size() + most, final_);
    preview_.reserve(most);
    trial_.reserve(most);
    trial_before_.reserve(most);
}

// Room for so many frames, beside what is there. Nothing changes when there is no memory for it.
void Stream::reserve(uint64_t frames) {
    if (frames > SIZE_MAX / 8 / frame_values_ - before_ - behind_) {
        fail(SIGNEDGE_OUT_OF_MEMORY, "no room for %llu frames", static_cast<unsigned long long>(frames));
    }
    if (keypoints_) {
        raw_.resize(frames * keypoints_->raw_values());
    }
    buffer_.resize((frames + before_ + behind_) * frame_values_);
    capacity_ = frames;
}

// ------------------------------------------------------------------------------------------------------- frames in ---

void Stream::push(const signedge_frame &frame) {
    if (!image_) {
        fail(SIGNEDGE_UNSUPPORTED, "'%s' reads keypoints, not frames", model_->contract.name.c_str());
    }
    take(frame.timestamp_ns, [&](uint64_t number) { image_->prepare(frame, slot(number)); });
}

void Stream::push(const signedge_keypoints &points) {
    if (!keypoints_) {
        fail(SIGNEDGE_UNSUPPORTED, "'%s' reads frames, not keypoints", model_->contract.name.c_str());
    }
    take(points.timestamp_ns, [&](uint64_t frame) {
        float *raw = raw_slot(frame);
        keypoints_->read(points, raw);
        if (keypoints_->prepare(raw, slot(frame))) {
            keypoints_->redo(raw_slot(base_), slot(base_), frames_ - base_);
        }
    });
}

template <typename Prepare>
void Stream::take(int64_t timestamp, Prepare prepare) {
    if (finished_) {
        fail(SIGNEDGE_FINISHED, "the stream has ended: reset it before the next clip");
    }
    if (started_ && timestamp <= last_time_) {
        fail(SIGNEDGE_BAD_TIME, "timestamp %lld ns is not after the one before, %lld ns",
             static_cast<long long>(timestamp), static_cast<long long>(last_time_));
    }
    const Instants instants = options_.resample ? due(timestamp) : Instants{1, grid_};
    if (instants.count > 0) {
        make_room(instants.count);
        const Stopwatch stopwatch(counts_.prepare_ns);
        const uint64_t number = frames_ + instants.count - 1;
        prepare(number);
        const uint64_t end = static_cast<uint64_t>(timestamp);  // unsigned: a span may be longer than half the clock
        const uint64_t period = (end - static_cast<uint64_t>(last_time_)) / instants.count;
        for (; frames_ < number; frames_++) {  // instants between the last frame and this one saw the last one
            copy_frames(frames_ - 1, 1, frames_);
            times_[frames_ % times_.size()] = static_cast<int64_t>(end - (number - frames_) * period);
        }
        times_[number % times_.size()] = timestamp;
        frames_ = number + 1;
        counts_.frames_repeated += instants.count - 1;
        drop_oldest();
    } else {
        counts_.frames_skipped++;
    }
    counts_.frames_pushed++;
    grid_ = instants.after;
    first_time_ = started_ ? first_time_ : timestamp;
    last_time_ = timestamp;
    started_ = true;
}

// Prepared frames, and their points, to another place: an earlier one, where they overlap.
void Stream::copy_frames(uint64_t from, uint64_t count, uint64_t to) {
    std::copy_n(slot(from), count * frame_values_, slot(to));
    if (keypoints_) {
        std::copy_n(raw_slot(from), count * keypoints_->raw_values(), raw_slot(to));
    }
}

// The instants of the model's frame rate that a frame at this time serves: those since the last frame, up to now.
Stream::Instants Stream::due(int64_t timestamp) const {
    const double fps = model_->contract.fps;
    if (!started_) {
        return {1, {timestamp, 1}};
    }
    const double elapsed = seconds_between(grid_.start, timestamp);
    // A frame serves the instant that it is nearest to, so that a camera of the same rate may jitter. Not quite half a
    // period: between two instants the later one takes it, whatever rounding says.
    const double passed = std::floor(std::min(elapsed * fps + 0.45, 1e15)) + 1;
    const uint64_t count = passed > static_cast<double>(grid_.next) ? static_cast<uint64_t>(passed) - grid_.next : 0;
    if (count > longest_gap) {
        return {1, {timestamp, 1}};
    }
    return {count, {grid_.start, grid_.next + count}};
}

void Stream::make_room(uint64_t frames) {
    if (options_.whole) {
        if (frames_ + frames > capacity_) {
            const uint64_t wanted = std::max(2 * capacity_, frames_ + frames);
            times_.resize(wanted);
            reserve(wanted);
        }
        return;
    }
    if (waiting() + frames > most_waiting() && waiting() >= options_.shift) {
        if (options_.when_full == SIGNEDGE_WHEN_FULL_REFUSE) {
            fail(SIGNEDGE_QUEUE_FULL, "%llu frames wait already: step the stream first",
                 static_cast<unsigned long long>(waiting()));
        }
        if (options_.when_full == SIGNEDGE_WHEN_FULL_BLOCK) {
            Stream *self = this;
            step(&self, 1);
        }
    }
    if (frames_ - base_ + frames > capacity_) {
        let_go();
    }
}

// After the new frame was taken: one that is refused costs no other.
void Stream::drop_oldest() {
    if (options_.whole || options_.when_full != SIGNEDGE_WHEN_FULL_DROP_OLDEST || waiting() <= most_waiting()) {
        return;
    }
    const uint64_t kept = most_waiting(), frames = waiting() - kept;
    copy_frames(run_end_ + frames, kept, run_end_);
    for (uint64_t frame = run_end_; frame < run_end_ + kept; frame++) {
        times_[frame % times_.size()] = times_[(frame + frames) % times_.size()];
    }
    frames_ -= frames;
    counts_.frames_dropped += frames;
}

// Frames that no later window reaches make room for new ones.
void Stream::let_go() {
    const uint64_t keep = run_end_ > options_.chunk ? (run_end_ - options_.chunk) / stride_ * stride_ : 0;
    if (keep <= base_) {
        return;
    }
    copy_frames(keep, frames_ - keep, base_);
    base_ = keep;
}

void Stream::finish() {
    finished_ = true;
}

void Stream::reset() {
    decoder_->reset();
    if (keypoints_) {
        keypoints_->reset();
    }
    base_ = frames_ = run_end_ = posteriors_begin_ = posteriors_end_ = settled_ = 0;
    started_ = finished_ = complete_ = false;
    grid_ = {};
    trial_.clear();
    final_.clear();
    taken_ = 0;
    counts_ = {};
}

// --------------------------------------------------------------------------------------------------------- windows ---

bool Stream::ready() const {
    return finished_ ? !complete_ : !options_.whole && waiting() >= options_.shift;
}

Stream::Window Stream::next_window() const {
    Window window;
    const bool to_the_end = finished_ && (reaches_back(frames_) || waiting() < hop());
    window.end = to_the_end ? frames_ : run_end_ + hop();
    window.begin = reaches_back(window.end) ? 0 : round_up(window.end - options_.chunk, stride_);
    window.padded = model_->contract.padding.total(window.end - window.begin);
    return window;
}

void Stream::step(Stream *const *streams, uint32_t count) {
    // A round gives every stream that is ready one run. Streams whose windows are equally long may share one, and the
    // model's workers make several at once.
    Stream &leader = *streams[0];
    std::vector<Run> &runs = leader.runs_;
    while (plan(streams, count)) {
        auto task = [&](uint32_t i) {
            try {
                run(runs[i], leader.members_.data() + runs[i].first);
            } catch (...) {
                runs[i].failure = std::current_exception();
            }
        };
        leader.model_->workers->run(static_cast<uint32_t>(runs.size()), task);
        for (const Run &run : runs) {
            if (run.failure) {
                std::rethrow_exception(run.failure);
            }
            leader.batch_size_.took(run.padded, run.count, run.ns);
        }
    }
}

// Fills the first stream's runs_ and members_ with the next round; false when no stream is ready.
bool Stream::plan(Stream *const *streams, uint32_t count) {
    std::vector<Run> &runs = streams[0]->runs_;
    std::vector<Stream *> &members = streams[0]->members_;
    runs.clear();
    members.clear();
    for (uint32_t i = 0; i < count; i++) {
        Stream &stream = *streams[i];
        // The end of a stream whose last run saw it already, or of an empty one, needs no network.
        if (stream.ready() && stream.next_window().end == stream.run_end_) {
            stream.conclude();
        }
        stream.planned_ = !stream.ready();
    }
    for (uint32_t i = 0; i < count; i++) {
        if (streams[i]->planned_) {
            continue;
        }
        const Window window = streams[i]->next_window();
        const uint32_t first = static_cast<uint32_t>(members.size());
        for (uint32_t j = i; j < count; j++) {
            const Window other = streams[j]->planned_ ? Window{} : streams[j]->next_window();
            if (other.padded == window.padded && other.end - other.begin == window.end - window.begin) {
                streams[j]->planned_ = true;
                members.push_back(streams[j]);
            }
        }
        const uint32_t alike = static_cast<uint32_t>(members.size()) - first;
        const uint32_t batch = streams[0]->batch(window, alike);
        for (uint32_t done = 0; done < alike; done += batch) {
            runs.push_back({first + done, std::min(batch, alike - done), window.padded, 0, nullptr});
        }
    }
    return !runs.empty();
}

// Clips of one run, where so many streams have windows that are equally long.
uint32_t Stream::batch(const Window &window, uint32_t streams) {
    if (!model_->session->batches()) {
        return 1;
    }
    const uint64_t room = std::max<uint64_t>(1, batch_values / (window.padded * frame_values_));
    const uint32_t fair = (streams + model_->workers->threads() - 1) / model_->workers->threads();
    return batch_size_.next(window.padded, static_cast<uint32_t>(std::min<uint64_t>(room, fair)));
}

void Stream::run(Run &run, Stream *const *streams) {
    Stream &leader = *streams[0];
    const Window window = leader.next_window();
    const uint64_t steps = leader.model_->contract.steps_run(window.end - window.begin);
    if (run.count == 1) {
        leader.run_alone(window, steps, run.ns);
    } else {
        run_together(streams, run.count, window.padded, steps, run.ns);
    }
    for (uint32_t i = 0; i < run.count; i++) {
        signedge_statistics &counts = streams[i]->counts_;
        counts.runs++;
        counts.run_ns += run.ns / run.count;
        counts.last_run_ns = run.ns;
        streams[i]->absorb(streams[i]->next_window());
    }
}

// Frames behind a window that its padding may lie over. Only short windows have much of it: before the end of a stream
// they have no more than what waits behind them, and of a whole clip nothing.
uint64_t Stream::most_edge() const {
    const Padding &padding = model_->contract.padding;
    const uint64_t full = uint64_t{padding.right} + padding.multiple;
    return options_.whole ? full : std::min(behind_, std::max(full, most_waiting() + longest_gap));
}

// The window lies in the buffer as the network wants it but for its edges: they are written over the frames around it.
// What lies before a window is never needed again; what lies behind is put back.
void Stream::run_alone(const Window &window, uint64_t steps, uint64_t &run_ns) {
    const uint64_t left = model_->contract.padding.left;
    const uint64_t right = window.padded - left - (window.end - window.begin);
    const uint64_t covered = std::min(right, frames_ - window.end);
    output_.resize(steps * classes_);
    std::copy_n(slot(window.end), covered * frame_values_, edge_.data());
    fill_edges(window, slot(window.begin) - left * frame_values_);
    std::exception_ptr failure;
    {
        const Stopwatch stopwatch(run_ns);
        try {
            model_->session->run(slot(window.begin) - left * frame_values_, 1, static_cast<int64_t>(window.padded),
                                 output_.data(), static_cast<int64_t>(steps));
        } catch (...) {
            failure = std::current_exception();
        }
    }
    std::copy_n(edge_.data(), covered * frame_values_, slot(window.end));
    if (failure) {
        std::rethrow_exception(failure);
    }
}

void Stream::run_together(Stream *const *group, uint32_t count, uint64_t padded, uint64_t steps, uint64_t &run_ns) {
    Stream &leader = *group[0];
    const uint64_t input_values = padded * leader.frame_values_, output_values = steps * leader.classes_;
    leader.batch_input_.resize(count * input_values);
    leader.batch_output_.resize(count * output_values);
    for (uint32_t i = 0; i < count; i++) {
        const Window window = group[i]->next_window();
        float *clip = leader.batch_input_.data() + i * input_values;
        std::copy_n(group[i]->slot(window.begin), (window.end - window.begin) * leader.frame_values_,
                    clip + leader.model_->contract.padding.left * leader.frame_values_);
        group[i]->fill_edges(window, clip);
    }
    {
        const Stopwatch stopwatch(run_ns);
        leader.model_->session->run(leader.batch_input_.data(), static_cast<int64_t>(count),
                                    static_cast<int64_t>(padded), leader.batch_output_.data(),
                                    static_cast<int64_t>(steps));
    }
    for (uint32_t i = 0; i < count; i++) {
        group[i]->output_.resize(output_values);
        std::copy_n(leader.batch_output_.data() + i * output_values, output_values, group[i]->output_.data());
    }
}

// Repeats the first and the last frame of a clip that lies behind its left padding, as the contract says.
void Stream::fill_edges(const Window &window, float *clip) const {
    const uint64_t left = model_->contract.padding.left, length = window.end - window.begin;
    const float *first = clip + left * frame_values_, *last = first + (length - 1) * frame_values_;
    for (uint64_t frame = 0; frame < left; frame++) {
        std::copy_n(first, frame_values_, clip + frame * frame_values_);
    }
    for (uint64_t frame = left + length; frame < window.padded; frame++) {
        std::copy_n(last, frame_values_, clip + frame * frame_values_);
    }
}

// -------------------------------------------------------------------------------------------------------- decoding ---

void Stream::absorb(const Window &window) {
    const Stopwatch stopwatch(counts_.decode_ns);
    make_room_for_glosses(model_->contract.steps(window.end - window.begin));
    if (window.begin > 0) {
        // What the last run saw far enough ahead of stays as it had it: that run reached further back. So do steps that
        // the window has left behind.
        const uint64_t seen_ahead = run_end_ > options_.lookahead ? run_end_ - options_.lookahead : 0;
        settle(std::max(window.begin, seen_ahead) / stride_);
    }
    posteriors_.swap(output_);
    posteriors_begin_ = window.begin / stride_;
    posteriors_end_ = posteriors_begin_ + model_->contract.steps(window.end - window.begin);
    run_end_ = window.end;
    if (finished_ && window.end == frames_) {
        conclude();
        return;
    }
    if (!reaches_back(window.end)) {
        settle((window.end - options_.lookahead) / stride_);
    }
    if (options_.whole) {
        return;  // the next window follows at once: nobody sees what is not final
    }
    const float *rest = posteriors_.data() + (settled_ - posteriors_begin_) * classes_;
    preview_.clear();
    decoder_->preview(rest, posteriors_end_ - settled_, preview_);
    compare();
}

void Stream::settle(uint64_t steps) {
    steps = std::min(steps, posteriors_end_);
    if (steps > settled_) {
        decoder_->push(posteriors_.data() + (settled_ - posteriors_begin_) * classes_, steps - settled_);
        settled_ = steps;
    }
}

// May be called again when there was no memory for it.
void Stream::conclude() {
    make_room_for_glosses(posteriors_end_ - posteriors_begin_);
    settle(posteriors_end_);
    decoder_->finish();
    preview_.clear();
    compare();
    complete_ = true;
}

// Makes what the decoder has now, final and on trial, what is shown; counts what was shown and is gone.
void Stream::compare() {
    trial_before_.swap(trial_);
    trial_.clear();
    for (const Token &token : preview_) {
        trial_.push_back({token, 0});
    }
    for (const Trial &before : trial_before_) {
        const auto same = [&](const Token &token) { return overlap(token, before.token); };
        const auto now = std::find_if(trial_.begin(), trial_.end(), [&](const Trial &t) { return same(t.token); });
        if (now != trial_.end()) {
            now->kept = before.kept + 1;
        } else if (std::none_of(decoder_->fresh.begin(), decoder_->fresh.end(), same)) {
            counts_.retractions++;
        }
    }
    for (const Token &token : decoder_->fresh) {
        final_.push_back(gloss(token, SIGNEDGE_GLOSS_FINAL, 1));
    }
    decoder_->fresh.clear();
}

signedge_gloss Stream::gloss(const Token &token, uint32_t flags, float stability) const {
    signedge_gloss gloss = to_gloss(token, flags, stability);
    gloss.start_ns = time_of(token.start * stride_);
    gloss.end_ns = time_of(token.end * stride_);
    return gloss;
}

// The timestamp of a frame; of one still to come, as the model's frame rate promises it.
int64_t Stream::time_of(uint64_t frame) const {
    if (frames_ == 0) {
        return 0;
    }
    if (frame >= frames_) {
        const int64_t last = times_[(frames_ - 1) % times_.size()];
        const double ahead = static_cast<double>(frame - frames_ + 1) / model_->contract.fps * 1e9;
        return last + std::min(INT64_MAX - std::max<int64_t>(last, 0), static_cast<int64_t>(std::min(ahead, 1e18)));
    }
    const uint64_t oldest = frames_ > times_.size() ? frames_ - times_.size() : 0;
    return times_[std::max(frame, oldest) % times_.size()];
}

// ----------------------------------------------------------------------------------------------------- glosses out ---

uint32_t Stream::poll(const GlossArray &out) {
    const uint32_t finals = hand_out(final_, taken_, out, [](const signedge_gloss &gloss) { return gloss; });
    for (uint32_t i = 0; i < trial_.size(); i++) {
        const float kept = static_cast<float>(trial_[i].kept);
        out.put(finals + i, gloss(trial_[i].token, 0, (kept + 1) / (kept + 2)));
    }
    return finals + static_cast<uint32_t>(trial_.size());
}

uint32_t Stream::nbest(uint32_t rank, const GlossArray &out, double &score) const {
    if (!complete_ || rank >= decoder_->hypotheses.size()) {
        fail(SIGNEDGE_INVALID_ARGUMENT,
             complete_ ? "there is no hypothesis %u"
                       : "hypotheses are there after the end only: finish and step first (asked for %u)", rank);
    }
    const Hypothesis &hypothesis = decoder_->hypotheses[rank];
    const uint32_t count = static_cast<uint32_t>(hypothesis.tokens.size());
    for (uint32_t i = 0; i < count; i++) {
        out.put(i, gloss(hypothesis.tokens[i], SIGNEDGE_GLOSS_FINAL, 1));
    }
    score = hypothesis.score;
    return count;
}

signedge_statistics Stream::statistics() const {
    signedge_statistics statistics = counts_;
    statistics.chunk = options_.whole ? SIGNEDGE_WHOLE_CLIP : options_.chunk;
    statistics.shift = options_.whole ? 0 : options_.shift;
    statistics.lookahead = options_.whole ? 0 : options_.lookahead;
    statistics.frames_waiting = static_cast<uint32_t>(waiting());
    const double seconds = seconds_between(first_time_, last_time_);
    const uint64_t spent = counts_.prepare_ns + counts_.run_ns + counts_.decode_ns;
    statistics.real_time_factor = started_ && seconds > 0 ? static_cast<double>(spent) * 1e-9 / seconds : 0;
    return statistics;
}

}  // namespace signedge
