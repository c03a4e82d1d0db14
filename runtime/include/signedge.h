/* signedge.h: recognise continuous sign language with an engine that signedge made.
 *
 *   signedge_model   an engine, loaded and checked. Immutable: any number of threads may use it at once.
 *   signedge_stream  one signer in front of one camera, or one clip. It belongs to one thread at a time.
 *   signedge_lm      an n-gram language model over glosses. Immutable, shared by any number of decoders.
 *   signedge_decoder CTC decoding alone, for who has log-probabilities already. One thread at a time.
 *
 * Life of a stream: create, then for each frame push and step, poll for glosses; at the end finish, step, poll.
 *
 * Rules that hold for every function
 *   - It returns a status. SIGNEDGE_OK is 0. Details are a message kept in the handle: *_message() copies it out.
 *   - It never exits, aborts, prints, throws or changes a state that the process shares (locale, signals, environment).
 *     ONNX Runtime keeps one environment, with one logger, a process: whoever opens it first has chosen.
 *   - A thread must not be cancelled (pthread_cancel) inside it.
 *   - Strings are UTF-8 and end with a zero byte. Strings that go in are copied. Strings that come out live as long as
 *     the handle they came from, unless they are copied into the caller's buffer.
 *   - Memory that goes in (pixels, points) is read during the call only.
 *   - A struct starts with struct_size. Set all of it to zero, then struct_size to its sizeof: zero is the default of
 *     every field. The library reads and writes no more than struct_size bytes, so that old programs run with newer
 *     libraries and new programs with older ones.
 *   - *_destroy() takes NULL. Destroy streams before or after their model: each holds what it needs.
 *   - A function that fails leaves its handle as it was, and what was recognised before stays.
 */
#ifndef SIGNEDGE_H
#define SIGNEDGE_H

#include <stdint.h>

#if defined(__GNUC__)
#define SIGNEDGE_API __attribute__((visibility("default")))
#else
#define SIGNEDGE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. It grows when functions or fields are added; what is there never changes its meaning. */
#define SIGNEDGE_ABI_VERSION 1u

typedef int32_t signedge_status;
enum {
    SIGNEDGE_OK = 0,
    SIGNEDGE_INVALID_ARGUMENT = 1, /* a null or impossible argument: the message names it */
    SIGNEDGE_BAD_FILE = 2,         /* an engine or language model is missing, changed, broken or of another version */
    SIGNEDGE_NO_BACKEND = 3,       /* the library that runs this engine was not found, or is of the wrong version */
    SIGNEDGE_BACKEND_FAILED = 4,   /* it was found and failed: the message carries its own words */
    SIGNEDGE_UNSUPPORTED = 5,      /* the engine cannot do what was asked: frames for a model of keypoints, ... */
    SIGNEDGE_OUT_OF_MEMORY = 6,
    SIGNEDGE_QUEUE_FULL = 7,       /* the frame was not taken: step first (SIGNEDGE_WHEN_FULL_REFUSE) */
    SIGNEDGE_BAD_TIME = 8,         /* the frame was not taken: its timestamp is not after the one before */
    SIGNEDGE_FINISHED = 9,         /* the stream has ended: reset it for the next clip */
    SIGNEDGE_INTERNAL = 10         /* a fault of this library */
};

/* Versions. signedge_version() is "major.minor.patch", static. */
SIGNEDGE_API uint32_t signedge_abi_version(void);
SIGNEDGE_API const char *signedge_version(void);

/* The name of a status, such as "SIGNEDGE_BAD_FILE"; static, never NULL. */
SIGNEDGE_API const char *signedge_status_name(signedge_status status);

/* What this build can do, as JSON: backends (each with "available" and "version" or "reason"), instruction sets in use,
 * decoders, pixel formats. Copied as signedge_model_message() does. Loads the backends' libraries; they stay loaded. */
SIGNEDGE_API signedge_status signedge_capabilities(char *buffer, uint32_t capacity, uint32_t *needed);

/* ------------------------------------------------------------------------------------------------------- model --- */

typedef struct signedge_model signedge_model;

enum { SIGNEDGE_LOG_ERROR = 1, SIGNEDGE_LOG_WARNING = 2, SIGNEDGE_LOG_INFO = 3 };

/* Called from whichever thread is inside the library; must not call back into it. */
typedef void (*signedge_log_fn)(void *user, int32_t level, const char *message);

typedef struct signedge_model_options {
    uint32_t struct_size;
    int32_t threads;      /* threads inside one run; 0: every core that this process may use */
    const char *backend;  /* "onnxruntime", "openvino", "tensorrt"; NULL: the one that the engine names */
    const char *library;  /* path of the backend's shared library; NULL: $SIGNEDGE_<BACKEND>_LIBRARY, or the system's */
    signedge_log_fn log;  /* NULL: no log; it and log_user must outlive the model and its streams */
    void *log_user;
    int32_t workers;      /* runs at once in signedge_streams_step(); 0: 1. Many streams: threads 1, workers cores */
    int32_t reserved;     /* 0 */
} signedge_model_options;

enum { SIGNEDGE_INPUT_RGB = 1, SIGNEDGE_INPUT_KEYPOINTS = 2 };

typedef struct signedge_model_info {
    uint32_t struct_size;
    int32_t input;          /* SIGNEDGE_INPUT_* */
    uint32_t width, height; /* of the network's frames; 0 for keypoints */
    uint32_t joints;        /* of the keypoint layout; 0 for frames */
    uint32_t classes;       /* glosses and the blank, which is class 0 */
    uint32_t frame_stride;  /* frames a step of the output */
    int32_t lookahead;      /* future frames that a step depends on; -1: all of the clip */
    uint32_t chunk, shift;  /* frames of the window and of its hop when streaming; 0: the engine does not say */
    uint32_t frames;        /* the only number of frames that the network sees at once; 0: any */
    double fps;             /* frame rate that the network was trained at */
} signedge_model_info;

/* Open an engine folder (every file is checked against its hash) or a bare ONNX file with a contract. The file is read
 * whole: later changes on disk do not matter. A TensorRT plan is code, which runs with the rights of this process: one
 * that its manifest says is for another GPU or version is refused before it is read, but whose it is is not known here.
 * Open only plans that you trust; `signedge run` and the Python binding check their signatures. ONNX Runtime from 1.29
 * on reports its use to Microsoft, over the network, unless ORT_DISABLE_TELEMETRY=1 is in the environment by then; what
 * of it can be turned off later is turned off here. On failure *model is still a handle, good for
 * signedge_model_message() and signedge_model_destroy() only; it is NULL when there was no memory for it. */
SIGNEDGE_API signedge_status signedge_model_open(const char *path, const signedge_model_options *options,
                                                 signedge_model **model);
SIGNEDGE_API void signedge_model_destroy(signedge_model *model);

/* Copy the message of signedge_model_open() into buffer (at most capacity bytes with the zero byte, cut if need be);
 * *needed, if not NULL, gets the bytes that all of it takes. */
SIGNEDGE_API signedge_status signedge_model_message(const signedge_model *model, char *buffer, uint32_t capacity,
                                                    uint32_t *needed);
SIGNEDGE_API signedge_status signedge_model_get_info(const signedge_model *model, signedge_model_info *info);

/* Strings of the model, alive as long as it; NULL when the index is out of range or the model did not open. */
SIGNEDGE_API const char *signedge_model_gloss(const signedge_model *model, uint32_t id);
SIGNEDGE_API const char *signedge_model_joint(const signedge_model *model, uint32_t index);
SIGNEDGE_API const char *signedge_model_contract(const signedge_model *model); /* JSON */
SIGNEDGE_API const char *signedge_model_backend(const signedge_model *model);  /* name and version */

/* Run the network alone: input (batch, frames, ...) float32, prepared and padded as the contract says, to log_probs
 * (batch, steps, classes); both with their number of values. steps = (frames - padding) / frame_stride, rounded up.
 * Any number of threads may call it at once; what went wrong is written to message (capacity bytes; may be NULL). */
SIGNEDGE_API signedge_status signedge_model_run(const signedge_model *model, const float *input, uint64_t input_values,
                                                uint32_t batch, uint32_t frames, float *log_probs,
                                                uint64_t log_probs_values, char *message, uint32_t capacity);

/* ----------------------------------------------------------------------------------------------------- decoding --- */

typedef struct signedge_lm signedge_lm;

/* Read a language model in ARPA form, up to order 6, UTF-8; words are glosses. Handle and failure as
 * signedge_model_open(). */
SIGNEDGE_API signedge_status signedge_lm_open(const char *path, signedge_lm **lm);
SIGNEDGE_API void signedge_lm_destroy(signedge_lm *lm);
SIGNEDGE_API signedge_status signedge_lm_message(const signedge_lm *lm, char *buffer, uint32_t capacity,
                                                 uint32_t *needed);

enum { SIGNEDGE_DECODER_GREEDY = 0, SIGNEDGE_DECODER_BEAM = 1 };

typedef struct signedge_decoder_options {
    uint32_t struct_size;
    int32_t kind;                 /* SIGNEDGE_DECODER_* */
    uint32_t beam_width;          /* prefixes kept; 0: 10 */
    uint32_t top_k;               /* classes a step that may extend a prefix, the best ones; 0: 40 */
    float class_threshold;        /* classes less likely than this log-probability extend nothing; 0: -7 */
    float beam_threshold;         /* prefixes this much below the best (log) are dropped; 0: 15 */
    uint32_t nbest;               /* hypotheses kept at the end; 0: 1; at most beam_width */
    const signedge_lm *lm;        /* NULL: none; of beam search only. Held: it may be destroyed afterwards */
    float lm_weight;              /* factor of its log-probability; 0: 0.25 */
    float gloss_bonus;            /* added (log) for each gloss, against the language model's love of short sentences;
                                     0: 1 with a language model, else none */
    const char *const *hot_words; /* glosses to favour; of beam search only */
    const float *hot_boosts;      /* added (log) each time a prefix takes that gloss */
    uint32_t hot_count;
    uint32_t reserved;            /* 0 */
} signedge_decoder_options;

enum { SIGNEDGE_GLOSS_FINAL = 1 };

/* One recognised gloss. Arrays of it are given with the size of an element, in place of a struct_size in each. */
typedef struct signedge_gloss {
    uint32_t id;                  /* signedge_model_gloss() names it */
    uint32_t flags;               /* SIGNEDGE_GLOSS_FINAL: it will not change any more */
    int64_t start_ns, end_ns;     /* on the clock of the frames' timestamps; decoders alone: 0 */
    uint64_t start_step, end_step;/* steps of the output since the start, end excluded */
    float confidence;             /* mean posterior of the gloss over its steps, 0 to 1 */
    float stability;              /* 1 when final; else (n + 1) / (n + 2) after n further runs kept it */
} signedge_gloss;

typedef struct signedge_decoder signedge_decoder;

/* glosses[classes]; glosses[0] is the blank. Handle and failure as signedge_model_open(). */
SIGNEDGE_API signedge_status signedge_decoder_create(const char *const *glosses, uint32_t classes,
                                                     const signedge_decoder_options *options,
                                                     signedge_decoder **decoder);
SIGNEDGE_API void signedge_decoder_destroy(signedge_decoder *decoder);
SIGNEDGE_API signedge_status signedge_decoder_message(const signedge_decoder *decoder, char *buffer,
                                                      uint32_t capacity, uint32_t *needed);

/* Feed steps of log_probs (steps, classes), natural logarithm. A value that is not a number counts as impossible. */
SIGNEDGE_API signedge_status signedge_decoder_push(signedge_decoder *decoder, const float *log_probs, uint32_t steps);

/* No more steps: everything becomes final. */
SIGNEDGE_API signedge_status signedge_decoder_finish(signedge_decoder *decoder);

/* Take what is final since the last poll, then see what is not final yet. See signedge_stream_poll(). */
SIGNEDGE_API signedge_status signedge_decoder_poll(signedge_decoder *decoder, signedge_gloss *glosses,
                                                   uint32_t item_size, uint32_t capacity, uint32_t *count);

/* After finish: hypothesis number rank (0: the best) of what became final then, that is without the glosses that were
 * final before, and its score (log), which counts all steps. *count is the number of its glosses; as many as fit are
 * written. SIGNEDGE_INVALID_ARGUMENT when there are not so many hypotheses. */
SIGNEDGE_API signedge_status signedge_decoder_nbest(const signedge_decoder *decoder, uint32_t rank,
                                                    signedge_gloss *glosses, uint32_t item_size, uint32_t capacity,
                                                    uint32_t *count, double *score);

/* Forget everything, keep the memory. */
SIGNEDGE_API signedge_status signedge_decoder_reset(signedge_decoder *decoder);

/* ------------------------------------------------------------------------------------------------------- stream --- */

typedef struct signedge_stream signedge_stream;

/* What push does while as many frames wait as the queue holds. */
enum {
    SIGNEDGE_WHEN_FULL_BLOCK = 0,      /* it steps until there is room, and returns then */
    SIGNEDGE_WHEN_FULL_REFUSE = 1,     /* SIGNEDGE_QUEUE_FULL, the frame is not taken */
    SIGNEDGE_WHEN_FULL_DROP_OLDEST = 2 /* the oldest waiting frame is lost, and counted */
};

#define SIGNEDGE_WHOLE_CLIP 0xffffffffu

typedef struct signedge_stream_options {
    uint32_t struct_size;
    uint32_t chunk;     /* frames of the window; 0: the engine's, or 256; SIGNEDGE_WHOLE_CLIP: one run at the end, or, if
                           the network sees one number of frames only, as few windows of it as the clip needs */
    uint32_t shift;     /* new frames a run, a multiple of frame_stride; 0: the engine's, or 16, or what the lookahead
                           leaves of the chunk */
    uint32_t lookahead; /* frames after a step before it is settled; 0: the engine's, or half the window at most */
    uint32_t queue;     /* frames that may wait for a step beyond the next run's; 0: 4 shifts */
    int32_t when_full;  /* SIGNEDGE_WHEN_FULL_* */
    int32_t resample;   /* not 0: take frames by their timestamps at the engine's frame rate, skipping and repeating;
                           gaps of more than 64 frames are not filled */
    uint32_t joints;    /* of the keypoints that will be pushed; 0: the engine's own layout */
    const char *const *joint_names;           /* joints names */
    const signedge_decoder_options *decoder;  /* NULL: greedy */
} signedge_stream_options;

enum {
    SIGNEDGE_PIXELS_RGB = 1,  /* one plane, 3 bytes a pixel */
    SIGNEDGE_PIXELS_BGR = 2,
    SIGNEDGE_PIXELS_GRAY = 3, /* one plane, 1 byte a pixel */
    SIGNEDGE_PIXELS_NV12 = 4, /* two planes: Y, then U and V interleaved at half size */
    SIGNEDGE_PIXELS_I420 = 5  /* three planes: Y, U, V */
};
enum { SIGNEDGE_COLOUR_BT601 = 0, SIGNEDGE_COLOUR_BT709 = 1, SIGNEDGE_COLOUR_BT601_FULL = 2 };

typedef struct signedge_frame {
    uint32_t struct_size;
    int32_t format;            /* SIGNEDGE_PIXELS_* */
    uint32_t width, height;    /* in pixels, up to 16384 */
    int64_t timestamp_ns;      /* any clock that only goes forward; each after the one before */
    const uint8_t *planes[3];
    uint32_t strides[3];       /* bytes from a row to the next; 0: rows touch */
    int32_t colour;            /* SIGNEDGE_COLOUR_*, of NV12 and I420 */
    uint32_t crop_x, crop_y, crop_width, crop_height; /* the part to look at; width 0: all of it */
} signedge_frame;

typedef struct signedge_keypoints {
    uint32_t struct_size;
    uint32_t joints;      /* as the stream was told */
    const float *points;  /* (joints, 3): x, y, confidence. Not finite, or confidence 0: not seen; but the joints
                             that positions are taken from (origin, roots, scale): only where x and y are 0 */
    int64_t timestamp_ns;
    float x_scale, y_scale; /* factors that make x and y units of the frame's width; 0: 1. Pixels: 1 / width, both */
} signedge_keypoints;

/* May be called from any thread. Handle and failure as signedge_model_open(). */
SIGNEDGE_API signedge_status signedge_stream_create(signedge_model *model, const signedge_stream_options *options,
                                                    signedge_stream **stream);
SIGNEDGE_API void signedge_stream_destroy(signedge_stream *stream);

/* The message of the last call on this stream that failed; of signedge_streams_step(), in the first stream. */
SIGNEDGE_API signedge_status signedge_stream_message(const signedge_stream *stream, char *buffer, uint32_t capacity,
                                                     uint32_t *needed);

/* Give a frame, or the keypoints of one. It is prepared at once and waits for a step. */
SIGNEDGE_API signedge_status signedge_stream_push_frame(signedge_stream *stream, const signedge_frame *frame);
SIGNEDGE_API signedge_status signedge_stream_push_keypoints(signedge_stream *stream,
                                                            const signedge_keypoints *keypoints);

/* Run the network as often as the waiting frames allow, and decode. Nothing to do is SIGNEDGE_OK. */
SIGNEDGE_API signedge_status signedge_stream_step(signedge_stream *stream);

/* Step several streams of one model together: runs of equal length share a batch where that is faster, and the model's
 * workers make several at once. The results are those of stepping each alone. All belong to the calling thread. On
 * failure every stream keeps its frames. */
SIGNEDGE_API signedge_status signedge_streams_step(signedge_stream *const *streams, uint32_t count);

/* No more frames will come: the next step runs what is left and makes everything final. */
SIGNEDGE_API signedge_status signedge_stream_finish(signedge_stream *stream);

/* Take the glosses that became final since the last poll, then see those that may still change. At most capacity are
 * written, item_size = sizeof(signedge_gloss) each; *count gets how many there are, of which those written and final
 * are taken. Final ones that did not fit wait for the next poll. */
SIGNEDGE_API signedge_status signedge_stream_poll(signedge_stream *stream, signedge_gloss *glosses,
                                                  uint32_t item_size, uint32_t capacity, uint32_t *count);

/* As signedge_decoder_nbest(). */
SIGNEDGE_API signedge_status signedge_stream_nbest(const signedge_stream *stream, uint32_t rank,
                                                   signedge_gloss *glosses, uint32_t item_size, uint32_t capacity,
                                                   uint32_t *count, double *score);

/* Forget everything, keep the memory: ready for the next clip. */
SIGNEDGE_API signedge_status signedge_stream_reset(signedge_stream *stream);

typedef struct signedge_statistics {
    uint32_t struct_size;
    uint32_t frames_waiting;
    uint64_t frames_pushed;   /* frames taken */
    uint64_t frames_dropped;  /* lost to a full queue */
    uint64_t frames_skipped;  /* left out by resampling */
    uint64_t frames_repeated; /* added by resampling */
    uint64_t runs;            /* of the network */
    uint64_t retractions;     /* glosses that were seen, not final, and then changed or went */
    uint64_t prepare_ns, run_ns, decode_ns; /* time spent since the last reset: in push, in the network, in decoding */
    uint64_t last_run_ns;
    double real_time_factor;  /* time spent / time between first and last timestamp; 0 before there are two */
    uint32_t chunk, shift, lookahead; /* in use, in frames; chunk is SIGNEDGE_WHOLE_CLIP if so */
    uint32_t reserved;
} signedge_statistics;

SIGNEDGE_API signedge_status signedge_stream_get_statistics(const signedge_stream *stream,
                                                            signedge_statistics *statistics);

#ifdef __cplusplus
}
#endif

#endif /* SIGNEDGE_H */
