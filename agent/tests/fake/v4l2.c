/* A fake Video4Linux camera for tests, to be preloaded: the real libraries talk to it as to a kernel's.
 *
 * It answers for /dev/video0 from a folder that the variable FAKE_V4L2 names, and passes everything else through:
 *   device          what it offers, a line each: FOURCC WIDTH HEIGHT RATE. Without this file there is no device; taken away
 *                   while it is used, every call says that it is gone.
 *   stall           while this file is there, no frame comes.
 *   sulk            while this file is there, the stream cannot be stopped, as with some drivers after an unplug.
 *   FOURCC-WxH.N    the bytes of frame N; after the last comes the first again.
 * The buffers are a memfd's, so that mmap is the kernel's own. Queueing is as strict as the kernel's: a buffer that is
 * queued cannot be queued again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FDS 8
#define OFFERS 16
#define BUFS 8

struct offer { __u32 fourcc, width, height, rate; };
struct camera {
    int fd, nonblock, streaming, bufs, queue[BUFS], queued;
    struct offer offer;
    __u32 rate, length, sequence;
    double due;
};
static struct camera cameras[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long real_syscall(long n, long a, long b, long c, long d, long e, long f) {
    static long (*next)(long, ...);
    if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next(n, a, b, c, d, e, f);
}

static int fail(int error) { errno = error; return -1; }

static void name(char *out, size_t size, const char *file) {
    const char *folder = getenv("FAKE_V4L2");
    snprintf(out, size, "%s/%s", folder ? folder : "/nonexistent", file);
}

static int there(const char *file) {
    char path[512];
    name(path, sizeof path, file);
    return access(path, F_OK) == 0;
}

static int offers(struct offer *out) {
    char path[512], fourcc[5];
    int count = 0;
    struct offer o;
    name(path, sizeof path, "device");
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    while (count < OFFERS && fscanf(file, "%4s %u %u %u", fourcc, &o.width, &o.height, &o.rate) == 4) {
        o.fourcc = v4l2_fourcc(fourcc[0], fourcc[1], fourcc[2], fourcc[3]);
        out[count++] = o;
    }
    fclose(file);
    return count;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static struct camera *camera(int fd) {
    for (int i = 0; fd > 0 && i < FDS; i++)
        if (cameras[i].fd == fd) return &cameras[i];
    return NULL;
}

static void form(struct camera *c, struct v4l2_format *f) {
    struct v4l2_pix_format *p = &f->fmt.pix;
    __u32 bytes = c->offer.fourcc == V4L2_PIX_FMT_YUYV ? 2 : 1;
    memset(p, 0, sizeof *p);
    p->width = c->offer.width;
    p->height = c->offer.height;
    p->pixelformat = c->offer.fourcc;
    p->field = V4L2_FIELD_NONE;
    p->bytesperline = c->offer.fourcc == V4L2_PIX_FMT_MJPEG ? 0 : c->offer.width * bytes;
    p->sizeimage = c->length = c->offer.width * c->offer.height * 4;
}

static void choose(struct camera *c, struct v4l2_format *f, int set) {
    struct offer all[OFFERS];
    int count = offers(all), best = 0;
    for (int i = count - 1; i >= 0; i--) {
        if (all[i].fourcc != f->fmt.pix.pixelformat) continue;
        best = i;
        if (all[i].width == f->fmt.pix.width && all[i].height == f->fmt.pix.height) break;
    }
    struct camera copy = *c;
    copy.offer = all[best];
    form(&copy, f);
    if (set) { c->offer = copy.offer; c->length = copy.length; c->rate = c->offer.rate; }
}

static int fill(struct camera *c, int index) {
    char file[64], path[512];
    __u32 f = c->offer.fourcc;
    for (int turn = 0; turn < 2; turn++) {
        snprintf(file, sizeof file, "%c%c%c%c-%ux%u.%u", f & 255, f >> 8 & 255, f >> 16 & 255, f >> 24, c->offer.width,
                 c->offer.height, turn ? 0 : c->sequence);
        name(path, sizeof path, file);
        FILE *from = fopen(path, "r");
        if (!from) { c->sequence = 0; continue; }
        static char bytes[1 << 23];
        size_t size = fread(bytes, 1, sizeof bytes < c->length ? sizeof bytes : c->length, from);
        fclose(from);
        c->sequence++;
        return pwrite(c->fd, bytes, size, (off_t)index * c->length);
    }
    return 0;
}

static int ready(struct camera *c) { return c->streaming && c->queued > 0 && !there("stall") && now() >= c->due; }

static int answer(struct camera *c, unsigned long request, void *arg) {
    struct offer all[OFFERS];
    int count = offers(all);
    if (count < 0) return fail(ENODEV);
    switch ((__u32)request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *cap = arg;
        memset(cap, 0, sizeof *cap);
        strcpy((char *)cap->driver, "fake");
        strcpy((char *)cap->card, "Fake Camera");
        strcpy((char *)cap->bus_info, "platform:fake");
        cap->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        cap->capabilities = cap->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)arg = 0; return 0;
    case VIDIOC_S_INPUT: return 0;
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *in = arg;
        if (in->index) return fail(EINVAL);
        memset(in, 0, sizeof *in);
        in->type = V4L2_INPUT_TYPE_CAMERA;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *d = arg;
        __u32 seen = 0;
        for (int i = 0; i < count; i++) {
            if (i && all[i].fourcc == all[i - 1].fourcc) continue;
            if (seen++ != d->index) continue;
            d->pixelformat = all[i].fourcc;
            d->flags = 0;
            strcpy((char *)d->description, "fake");
            return 0;
        }
        return fail(EINVAL);
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *s = arg;
        __u32 seen = 0;
        for (int i = 0; i < count; i++) {
            if (all[i].fourcc != s->pixel_format || seen++ != s->index) continue;
            s->type = V4L2_FRMSIZE_TYPE_DISCRETE;
            s->discrete.width = all[i].width;
            s->discrete.height = all[i].height;
            return 0;
        }
        return fail(EINVAL);
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *v = arg;
        for (int i = 0; v->index == 0 && i < count; i++) {
            if (all[i].fourcc != v->pixel_format || all[i].width != v->width || all[i].height != v->height) continue;
            v->type = V4L2_FRMIVAL_TYPE_DISCRETE;
            v->discrete = (struct v4l2_fract){1, all[i].rate};
            return 0;
        }
        return fail(EINVAL);
    }
    case VIDIOC_G_FMT: form(c, arg); return 0;
    case VIDIOC_TRY_FMT: choose(c, arg, 0); return 0;
    case VIDIOC_S_FMT:
        if (c->bufs) return fail(EBUSY);
        choose(c, arg, 1);
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *p = arg;
        struct v4l2_fract *t = &p->parm.capture.timeperframe;
        if ((__u32)request == VIDIOC_S_PARM && t->numerator) {
            __u32 wanted = t->denominator / t->numerator;
            c->rate = wanted && wanted < c->offer.rate ? wanted : c->offer.rate;
        }
        p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        *t = (struct v4l2_fract){1, c->rate};
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *r = arg;
        if (r->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
        if (r->count > BUFS) r->count = BUFS;
        c->bufs = r->count;
        c->queued = c->streaming = 0;
        c->length = (c->length + 4095) / 4096 * 4096;
        return ftruncate(c->fd, (off_t)c->length * BUFS);
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *b = arg;
        if (b->index >= (__u32)c->bufs) return fail(EINVAL);
        b->length = c->length;
        b->m.offset = b->index * c->length;
        return 0;
    }
    case VIDIOC_QBUF: {
        struct v4l2_buffer *b = arg;
        if (b->index >= (__u32)c->bufs) return fail(EINVAL);
        for (int i = 0; i < c->queued; i++)
            if (c->queue[i] == (int)b->index) return fail(EINVAL);
        c->queue[c->queued++] = b->index;
        return 0;
    }
    case VIDIOC_STREAMON: c->streaming = 1; c->due = now() + 1.0 / c->rate; return 0;
    case VIDIOC_STREAMOFF:
        if (there("sulk")) return fail(EIO);
        c->streaming = c->queued = 0; return 0;
    case VIDIOC_DQBUF: {
        struct v4l2_buffer *b = arg;
        if (!c->streaming) return fail(EINVAL);
        if (!ready(c)) return fail(EAGAIN);
        int index = c->queue[0];
        memmove(c->queue, c->queue + 1, sizeof(int) * --c->queued);
        c->due = now() + 1.0 / c->rate;
        b->index = index;
        b->sequence = c->sequence;
        b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        b->field = V4L2_FIELD_NONE;
        b->length = c->length;
        b->m.offset = index * c->length;
        b->timestamp.tv_sec = (long)now();
        b->bytesused = fill(c, index);
        return 0;
    }
    default: return fail(ENOTTY);
    }
}

static int control(struct camera *c, unsigned long request, void *arg) {
    for (;;) {
        pthread_mutex_lock(&lock);
        int result = answer(c, request, arg), error = errno;
        pthread_mutex_unlock(&lock);
        if (result == 0 || error != EAGAIN || c->nonblock) { errno = error; return result; }
        usleep(2000);
    }
}

static int open_camera(int flags) {
    struct offer all[OFFERS];
    int count = offers(all);
    if (count <= 0) return fail(ENOENT);
    for (int i = 0; i < FDS; i++) {
        struct camera *c = &cameras[i];
        if (c->fd) continue;
        *c = (struct camera){.offer = all[0], .rate = all[0].rate, .nonblock = flags & O_NONBLOCK};
        c->fd = memfd_create("fake-v4l2", MFD_CLOEXEC);
        return c->fd;
    }
    return fail(EBUSY);
}

static int is_camera(const char *path) { return getenv("FAKE_V4L2") && !strcmp(path, "/dev/video0"); }

#define OPEN(symbol)                                                                                                   \
    int symbol(const char *path, int flags, ...) {                                                                     \
        static int (*next)(const char *, int, ...);                                                                    \
        if (!next) next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #symbol);                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        int mode = va_arg(rest, int);                                                                                  \
        va_end(rest);                                                                                                  \
        return is_camera(path) ? open_camera(flags) : next(path, flags, mode);                                         \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    struct camera *c = camera(fd);
    if (c) c->fd = 0;
    return real_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *arg = va_arg(rest, void *);
    va_end(rest);
    struct camera *c = camera(fd);
    return c ? control(c, request, arg) : real_syscall(SYS_ioctl, fd, request, (long)arg, 0, 0, 0);
}

long syscall(long n, ...) {
    va_list rest;
    long a[6];
    va_start(rest, n);
    for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
    va_end(rest);
    struct camera *c = n == SYS_ioctl ? camera(a[0]) : NULL;
    return c ? control(c, a[1], (void *)a[2]) : real_syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int poll(struct pollfd *fds, nfds_t count, int timeout) {
    int fd = count == 1 ? fds->fd : 0;
    struct camera *c = camera(fd);
    if (!c) {
        static int (*next)(struct pollfd *, nfds_t, int);
        if (!next) next = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
        return next(fds, count, timeout);
    }
    for (double until = now() + timeout / 1e3;;) {
        fds[0].revents = !there("device") || !c->streaming ? POLLERR : ready(c) ? POLLIN : 0;
        if (fds[0].revents) return 1;
        if (timeout >= 0 && now() >= until) return 0;
        usleep(1000);
    }
}
