/* recognise_file.c: the glosses of raw frames or keypoints, from a file or a pipe, as they become final.
 *
 *   ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | recognise_file ENGINE 640 480 25      an engine of frames
 *   recognise_file ENGINE 25 keypoints.f32                                                 an engine of keypoints
 *
 * Keypoints are float32, for each frame x, y, confidence of every joint; x and y as shares of the frame's width.
 * Exit status: 0 done, 1 it failed, 2 wrong use. What was recognised before a failure has been printed.
 */
#include <signedge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void explain_model(const char *what, const signedge_model *model) {
    char message[1024] = "out of memory";
    signedge_model_message(model, message, sizeof message, NULL);
    fprintf(stderr, "%s: %s\n", what, message);
}

static void explain_stream(const char *what, const signedge_stream *stream) {
    char message[1024] = "out of memory";
    signedge_stream_message(stream, message, sizeof message, NULL);
    fprintf(stderr, "%s: %s\n", what, message);
}

/* Print what became final since the last call. */
static signedge_status print_final(const signedge_model *model, signedge_stream *stream) {
    signedge_gloss glosses[64];
    uint32_t count = 0, finals, i;
    do {
        const signedge_status status = signedge_stream_poll(stream, glosses, sizeof glosses[0], 64, &count);
        if (status != SIGNEDGE_OK) {
            return status;
        }
        finals = 0;
        for (i = 0; i < count && i < 64; i++) {
            if (glosses[i].flags & SIGNEDGE_GLOSS_FINAL) {
                printf("%.3f %.3f %s %.2f\n", (double)glosses[i].start_ns * 1e-9, (double)glosses[i].end_ns * 1e-9,
                       signedge_model_gloss(model, glosses[i].id), (double)glosses[i].confidence);
                finals++;
            }
        }
    } while (finals == 64); /* there may be more */
    fflush(stdout);
    return SIGNEDGE_OK;
}

/* Signers are looked at through the centre square, as in training. */
static signedge_status push_frame(signedge_stream *stream, const void *pixels, uint32_t width, uint32_t height,
                                  int64_t time_ns) {
    signedge_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.struct_size = sizeof frame;
    frame.format = SIGNEDGE_PIXELS_RGB;
    frame.width = width;
    frame.height = height;
    frame.timestamp_ns = time_ns;
    frame.planes[0] = pixels;
    frame.crop_width = frame.crop_height = width < height ? width : height;
    frame.crop_x = (width - frame.crop_width) / 2;
    frame.crop_y = (height - frame.crop_height) / 2;
    return signedge_stream_push_frame(stream, &frame);
}

static signedge_status push_keypoints(signedge_stream *stream, const void *points, uint32_t joints, int64_t time_ns) {
    signedge_keypoints keypoints;
    memset(&keypoints, 0, sizeof keypoints);
    keypoints.struct_size = sizeof keypoints;
    keypoints.joints = joints;
    keypoints.points = points;
    keypoints.timestamp_ns = time_ns;
    return signedge_stream_push_keypoints(stream, &keypoints);
}

/* 0 when all of the input was recognised. width 0: keypoints. */
static int recognise(const signedge_model *model, signedge_stream *stream, FILE *input, uint32_t width, uint32_t height,
                     uint32_t joints, double fps) {
    const size_t size = width > 0 ? (size_t)width * height * 3 : joints * 3 * sizeof(float);
    unsigned char *item = malloc(size);
    signedge_status status = item ? SIGNEDGE_OK : SIGNEDGE_OUT_OF_MEMORY;
    size_t got = 0;
    int64_t number = 0;
    while (status == SIGNEDGE_OK && (got = fread(item, 1, size, input)) == size) {
        const int64_t time_ns = (int64_t)((double)number++ * 1e9 / fps);
        status = width > 0 ? push_frame(stream, item, width, height, time_ns)
                           : push_keypoints(stream, item, joints, time_ns);
        status = status == SIGNEDGE_OK ? signedge_stream_step(stream) : status;
        status = status == SIGNEDGE_OK ? print_final(model, stream) : status;
    }
    free(item);
    if (status == SIGNEDGE_OK) {
        status = signedge_stream_finish(stream);
    }
    if (status == SIGNEDGE_OK) {
        status = signedge_stream_step(stream);
    }
    if (status == SIGNEDGE_OK) {
        status = print_final(model, stream);
    }
    if (status != SIGNEDGE_OK) {
        explain_stream(signedge_status_name(status), stream);
    } else if (ferror(input) || got > 0 || number == 0) {
        fprintf(stderr, number > 0 ? "the input ends in the middle of a frame, after %ld whole ones\n" : "the input has no whole frame\n", (long)number);
    }
    return status != SIGNEDGE_OK || ferror(input) || got > 0 || number == 0;
}

int main(int argc, char **argv) {
    const int frames = argc == 5 || argc == 6;
    const unsigned long width = frames ? strtoul(argv[2], NULL, 10) : 0, height = frames ? strtoul(argv[3], NULL, 10) : 0;
    const double fps = frames ? strtod(argv[4], NULL) : argc > 2 ? strtod(argv[2], NULL) : 0;
    const char *path = argc == 6 ? argv[5] : argc == 4 ? argv[3] : NULL;
    FILE *input = path ? fopen(path, "rb") : stdin;
    signedge_model *model = NULL;
    signedge_stream *stream = NULL;
    signedge_model_info info;
    signedge_stream_options options;
    int failed = 1;
    if (argc < 3 || argc > 6 || !(fps > 0) || (frames && (width < 1 || width > 16384 || height < 1 || height > 16384))) {
        fprintf(stderr, "usage: %s ENGINE WIDTH HEIGHT FPS [FILE]     raw RGB24 frames\n"
                        "       %s ENGINE FPS [FILE]                  raw float32 keypoints\n", argv[0], argv[0]);
        return 2;
    }
    if (!input) {
        perror(path);
        return 2;
    }
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    if (signedge_model_open(argv[1], NULL, &model) != SIGNEDGE_OK || signedge_model_get_info(model, &info) != SIGNEDGE_OK) {
        explain_model(argv[1], model);
    } else if ((info.input == SIGNEDGE_INPUT_RGB) != frames) {
        fprintf(stderr, "%s reads %s\n", argv[1], frames ? "keypoints: give FPS alone" : "frames: give WIDTH HEIGHT FPS");
    } else {
        options.resample = fps < 0.99 * info.fps || fps > 1.01 * info.fps;
        if (signedge_stream_create(model, &options, &stream) != SIGNEDGE_OK) {
            explain_stream("stream", stream);
        } else {
            failed = recognise(model, stream, input, (uint32_t)width, (uint32_t)height, info.joints, fps);
        }
    }
    signedge_stream_destroy(stream);
    signedge_model_destroy(model);
    if (input != stdin) {
        fclose(input);
    }
    return failed;
}
