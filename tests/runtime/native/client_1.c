/* A program of version 1 of the header: frames of a clip in, glosses out. It must run with every later library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signedge.h>

static int failed(const char *what, const char *message) {
    fprintf(stderr, "%s: %s\n", what, message);
    return 1;
}

int main(int argc, char **argv) {
    signedge_model_options model_options;
    signedge_stream_options stream_options;
    signedge_model *model = NULL;
    signedge_stream *stream = NULL;
    signedge_frame frame;
    signedge_gloss glosses[16];
    signedge_statistics statistics;
    char message[256];
    uint32_t count, i;
    size_t size;
    unsigned char *pixels;
    FILE *video;

    if (argc != 6) {
        return failed("usage", "client ENGINE RUNTIME FRAMES.rgb WIDTH HEIGHT");
    }
    memset(&model_options, 0, sizeof model_options);
    model_options.struct_size = sizeof model_options;
    model_options.threads = 1;
    model_options.library = argv[2];
    if (signedge_model_open(argv[1], &model_options, &model) != SIGNEDGE_OK) {
        signedge_model_message(model, message, sizeof message, NULL);
        return failed("open", message);
    }
    memset(&stream_options, 0, sizeof stream_options);
    stream_options.struct_size = sizeof stream_options;
    stream_options.chunk = SIGNEDGE_WHOLE_CLIP;
    if (signedge_stream_create(model, &stream_options, &stream) != SIGNEDGE_OK) {
        signedge_stream_message(stream, message, sizeof message, NULL);
        return failed("stream", message);
    }
    memset(&frame, 0, sizeof frame);
    frame.struct_size = sizeof frame;
    frame.format = SIGNEDGE_PIXELS_RGB;
    frame.width = (uint32_t)atoi(argv[4]);
    frame.height = (uint32_t)atoi(argv[5]);
    size = (size_t)frame.width * frame.height * 3;
    pixels = malloc(size);
    video = fopen(argv[3], "rb");
    if (!pixels || !video) {
        return failed("video", argv[3]);
    }
    frame.planes[0] = pixels;
    while (fread(pixels, 1, size, video) == size) {
        if (signedge_stream_push_frame(stream, &frame) != SIGNEDGE_OK) {
            signedge_stream_message(stream, message, sizeof message, NULL);
            return failed("push", message);
        }
        frame.timestamp_ns += 40000000;
    }
    fclose(video);
    free(pixels);
    if (signedge_stream_finish(stream) != SIGNEDGE_OK || signedge_stream_step(stream) != SIGNEDGE_OK) {
        signedge_stream_message(stream, message, sizeof message, NULL);
        return failed("step", message);
    }
    if (signedge_stream_poll(stream, glosses, sizeof glosses[0], 16, &count) != SIGNEDGE_OK) {
        return failed("poll", "");
    }
    for (i = 0; i < count && i < 16; i++) {
        printf("%s\n", signedge_model_gloss(model, glosses[i].id));
    }
    memset(&statistics, 0, sizeof statistics);
    statistics.struct_size = sizeof statistics;
    if (signedge_stream_get_statistics(stream, &statistics) != SIGNEDGE_OK || statistics.runs != 1) {
        return failed("statistics", "");
    }
    signedge_stream_destroy(stream);
    signedge_model_destroy(model);
    return 0;
}
