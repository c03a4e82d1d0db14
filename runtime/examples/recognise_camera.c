/* recognise_camera.c: glosses from a camera of Video4Linux, live; frames go from the driver's memory to the library.
 *
 *   recognise_camera ENGINE [DEVICE [WIDTH HEIGHT]]       /dev/video0 at 640 x 480, if you do not say
 *
 * Ends with Ctrl-C. A line a final gloss; on a terminal the last line shows what may still change.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <signal.h>
#include <signedge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { most_buffers = 4, patience_ms = 5000 };

typedef struct {
    int device, buffers, streaming;
    struct {
        void *start;
        size_t length;
    } mapped[most_buffers];
    uint32_t pixelformat; /* V4L2_PIX_FMT_* */
    signedge_frame frame; /* all but planes and time */
    unsigned char *i420;  /* where YUYV is converted to */
} camera;

static volatile sig_atomic_t interrupted = 0;

static void interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static int request(const camera *cam, unsigned long code, void *argument) {
    int result;
    do {
        result = ioctl(cam->device, code, argument);
    } while (result < 0 && errno == EINTR && !interrupted);
    return result;
}

static int32_t colour_of(const struct v4l2_pix_format *pix) {
    const uint32_t encoding = pix->ycbcr_enc ? pix->ycbcr_enc : V4L2_MAP_YCBCR_ENC_DEFAULT(pix->colorspace);
    const uint32_t range =
        pix->quantization ? pix->quantization : V4L2_MAP_QUANTIZATION_DEFAULT(0, pix->colorspace, encoding);
    if (range == V4L2_QUANTIZATION_FULL_RANGE) {
        return SIGNEDGE_COLOUR_BT601_FULL;
    }
    return encoding == V4L2_YCBCR_ENC_709 ? SIGNEDGE_COLOUR_BT709 : SIGNEDGE_COLOUR_BT601;
}

/* Ask for the formats that the library takes, then for YUYV, which most webcams have. */
static int choose_format(camera *cam, uint32_t width, uint32_t height) {
    static const struct {
        uint32_t theirs;
        int32_t ours;
    } formats[] = {
        {V4L2_PIX_FMT_NV12, SIGNEDGE_PIXELS_NV12}, {V4L2_PIX_FMT_YUV420, SIGNEDGE_PIXELS_I420},
        {V4L2_PIX_FMT_RGB24, SIGNEDGE_PIXELS_RGB}, {V4L2_PIX_FMT_BGR24, SIGNEDGE_PIXELS_BGR},
        {V4L2_PIX_FMT_YUYV, SIGNEDGE_PIXELS_I420},
    };
    size_t i;
    for (i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        struct v4l2_format format;
        struct v4l2_pix_format *pix = &format.fmt.pix;
        memset(&format, 0, sizeof format);
        format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        pix->width = width;
        pix->height = height;
        pix->pixelformat = formats[i].theirs;
        pix->field = V4L2_FIELD_ANY;
        if (request(cam, VIDIOC_S_FMT, &format) == 0 && pix->pixelformat == formats[i].theirs) {
            const uint32_t side = pix->width < pix->height ? pix->width : pix->height;
            cam->pixelformat = pix->pixelformat;
            cam->frame.struct_size = sizeof cam->frame;
            cam->frame.format = formats[i].ours;
            cam->frame.width = pix->width;
            cam->frame.height = pix->height;
            cam->frame.strides[0] = pix->bytesperline;
            cam->frame.colour = colour_of(pix);
            cam->frame.crop_width = cam->frame.crop_height = side; /* the centre square, as in training */
            cam->frame.crop_x = (pix->width - side) / 2;
            cam->frame.crop_y = (pix->height - side) / 2;
            return 0;
        }
    }
    fprintf(stderr, "the camera has none of NV12, YU12, RGB24, BGR24, YUYV (v4l2-ctl --list-formats shows what it has)\n");
    return -1;
}

static int start(camera *cam) {
    struct v4l2_requestbuffers wanted;
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    memset(&wanted, 0, sizeof wanted);
    wanted.count = most_buffers;
    wanted.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    wanted.memory = V4L2_MEMORY_MMAP;
    if (request(cam, VIDIOC_REQBUFS, &wanted) < 0) {
        perror("VIDIOC_REQBUFS");
        return -1;
    }
    for (; cam->buffers < (int)wanted.count && cam->buffers < most_buffers; cam->buffers++) {
        struct v4l2_buffer buffer;
        void *start;
        memset(&buffer, 0, sizeof buffer);
        buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        buffer.memory = V4L2_MEMORY_MMAP;
        buffer.index = (uint32_t)cam->buffers;
        if (request(cam, VIDIOC_QUERYBUF, &buffer) < 0) {
            perror("VIDIOC_QUERYBUF");
            return -1;
        }
        start = mmap(NULL, buffer.length, PROT_READ | PROT_WRITE, MAP_SHARED, cam->device, (off_t)buffer.m.offset);
        if (start == MAP_FAILED) {
            perror("mmap");
            return -1;
        }
        cam->mapped[cam->buffers].start = start;
        cam->mapped[cam->buffers].length = buffer.length;
        if (request(cam, VIDIOC_QBUF, &buffer) < 0) {
            perror("VIDIOC_QBUF");
            cam->buffers++;
            return -1;
        }
    }
    if (request(cam, VIDIOC_STREAMON, &type) < 0) {
        perror("VIDIOC_STREAMON");
        return -1;
    }
    cam->streaming = 1;
    return 0;
}

static void stop(camera *cam) {
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    if (cam->streaming) {
        ioctl(cam->device, VIDIOC_STREAMOFF, &type);
    }
    while (cam->buffers > 0) {
        cam->buffers--;
        munmap(cam->mapped[cam->buffers].start, cam->mapped[cam->buffers].length);
    }
    if (cam->device >= 0) {
        close(cam->device);
    }
    free(cam->i420);
}

/* YUYV has chroma for each row, I420 for each second: the mean of two rows. */
static void to_i420(camera *cam, const unsigned char *yuyv) {
    const size_t width = cam->frame.width, height = cam->frame.height, half = (width + 1) / 2;
    const size_t stride = cam->frame.strides[0];
    unsigned char *y = cam->i420, *u = y + width * height, *v = u + half * ((height + 1) / 2);
    size_t row, column;
    for (row = 0; row < height; row++) {
        for (column = 0; column < width; column++) {
            y[row * width + column] = yuyv[row * stride + 2 * column];
        }
    }
    for (row = 0; row < height; row += 2) {
        const unsigned char *above = yuyv + row * stride, *below = row + 1 < height ? above + stride : above;
        for (column = 0; column < half; column++) {
            *u++ = (unsigned char)((above[4 * column + 1] + below[4 * column + 1] + 1) / 2);
            *v++ = (unsigned char)((above[4 * column + 3] + below[4 * column + 3] + 1) / 2);
        }
    }
}

static signedge_status push(signedge_stream *stream, camera *cam, const unsigned char *pixels, int64_t time_ns) {
    signedge_frame frame = cam->frame;
    const uint32_t stride = frame.strides[0], height = frame.height;
    const int converted = cam->pixelformat == V4L2_PIX_FMT_YUYV;
    if (converted) {
        to_i420(cam, pixels);
        pixels = cam->i420;
        frame.strides[0] = 0;
    }
    frame.planes[0] = pixels;
    if (frame.format == SIGNEDGE_PIXELS_NV12) {
        frame.planes[1] = pixels + (size_t)stride * height;
        frame.strides[1] = stride;
    } else if (frame.format == SIGNEDGE_PIXELS_I420) {
        const size_t luma = converted ? (size_t)frame.width * height : (size_t)stride * height;
        const uint32_t chroma = converted ? (frame.width + 1) / 2 : stride / 2;
        frame.planes[1] = pixels + luma;
        frame.planes[2] = frame.planes[1] + (size_t)chroma * ((height + 1) / 2);
        frame.strides[1] = frame.strides[2] = chroma;
    }
    frame.timestamp_ns = time_ns;
    return signedge_stream_push_frame(stream, &frame);
}

/* Print what became final, and over the last line of a terminal what may still change. */
static signedge_status print_glosses(const signedge_model *model, signedge_stream *stream, int64_t began_ns) {
    signedge_gloss glosses[64];
    const int terminal = isatty(STDOUT_FILENO);
    uint32_t count = 0, finals, i;
    do {
        const signedge_status status = signedge_stream_poll(stream, glosses, sizeof glosses[0], 64, &count);
        if (status != SIGNEDGE_OK) {
            return status;
        }
        printf(terminal ? "\r\033[K" : "");
        for (finals = 0, i = 0; i < count && i < 64; i++) {
            const char *name = signedge_model_gloss(model, glosses[i].id);
            if (glosses[i].flags & SIGNEDGE_GLOSS_FINAL) {
                printf("%.2f %s\n", (double)(glosses[i].start_ns - began_ns) * 1e-9, name);
                finals++;
            } else if (terminal) {
                printf("%s ", name);
            }
        }
    } while (finals == 64);
    fflush(stdout);
    return SIGNEDGE_OK;
}

/* Frame by frame until it is interrupted; 0 if nothing else ended it. */
static int recognise(const signedge_model *model, signedge_stream *stream, camera *cam) {
    signedge_status status = SIGNEDGE_OK;
    int64_t began_ns = -1;
    int lost = 0;
    while (status == SIGNEDGE_OK && !interrupted) {
        struct pollfd ready;
        struct v4l2_buffer buffer;
        int64_t time_ns;
        ready.fd = cam->device;
        ready.events = POLLIN;
        memset(&buffer, 0, sizeof buffer);
        buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        buffer.memory = V4L2_MEMORY_MMAP;
        if (poll(&ready, 1, patience_ms) <= 0 || request(cam, VIDIOC_DQBUF, &buffer) < 0) {
            lost = !interrupted;
            break;
        }
        time_ns = (int64_t)buffer.timestamp.tv_sec * 1000000000 + (int64_t)buffer.timestamp.tv_usec * 1000;
        began_ns = began_ns < 0 ? time_ns : began_ns;
        if (!(buffer.flags & V4L2_BUF_FLAG_ERROR)) {
            status = push(stream, cam, cam->mapped[buffer.index].start, time_ns);
        }
        if (request(cam, VIDIOC_QBUF, &buffer) < 0) { /* the library has read the frame: the driver may have it back */
            lost = 1;
            break;
        }
        status = status == SIGNEDGE_OK ? signedge_stream_step(stream) : status;
        status = status == SIGNEDGE_OK ? print_glosses(model, stream, began_ns) : status;
    }
    if (lost) {
        fprintf(stderr, "the camera gives no more frames\n");
    }
    if (status == SIGNEDGE_OK) {
        status = signedge_stream_finish(stream);
        status = status == SIGNEDGE_OK ? signedge_stream_step(stream) : status;
        status = status == SIGNEDGE_OK ? print_glosses(model, stream, began_ns) : status;
    }
    if (status != SIGNEDGE_OK) {
        char message[1024] = "";
        signedge_stream_message(stream, message, sizeof message, NULL);
        fprintf(stderr, "%s: %s\n", signedge_status_name(status), message);
    }
    return lost || status != SIGNEDGE_OK;
}

static int open_camera(camera *cam, const char *device, uint32_t width, uint32_t height) {
    cam->device = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (cam->device < 0) {
        perror(device);
        return -1;
    }
    if (choose_format(cam, width, height) < 0) {
        return -1;
    }
    cam->i420 = malloc(2 * ((size_t)cam->frame.width + 1) * ((size_t)cam->frame.height + 1));
    if (!cam->i420) {
        perror("YUYV");
        return -1;
    }
    return start(cam);
}

int main(int argc, char **argv) {
    camera cam;
    struct sigaction action;
    signedge_model *model = NULL;
    signedge_stream *stream = NULL;
    signedge_stream_options options;
    char message[1024] = "";
    int failed = 1;
    if (argc < 2 || argc > 5 || argc == 4) {
        fprintf(stderr, "usage: %s ENGINE [DEVICE [WIDTH HEIGHT]]\n", argv[0]);
        return 2;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = interrupt; /* without SA_RESTART: poll() ends */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.resample = 1; /* cameras have rates of their own */
    memset(&cam, 0, sizeof cam);
    cam.device = -1;
    if (signedge_model_open(argv[1], NULL, &model) != SIGNEDGE_OK) {
        signedge_model_message(model, message, sizeof message, NULL);
    } else if (signedge_stream_create(model, &options, &stream) != SIGNEDGE_OK) {
        signedge_stream_message(stream, message, sizeof message, NULL);
    } else if (open_camera(&cam, argc > 2 ? argv[2] : "/dev/video0", argc > 4 ? (uint32_t)strtoul(argv[3], NULL, 10) : 640,
                           argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 480) == 0) {
        failed = recognise(model, stream, &cam);
    }
    if (message[0]) {
        fprintf(stderr, "%s: %s\n", argv[1], message);
    }
    stop(&cam);
    signedge_stream_destroy(stream);
    signedge_model_destroy(model);
    return failed;
}
