/* SPDX-License-Identifier: Apache-2.0
 * Send requests at a given rate; print when each was due (monotonic clock) and how late its answer was, in ns.
 * Built and called by lb_pace.py.
 *
 *   lb_pace PORT RATE CONNECTIONS WARM SECONDS < request
 *
 * One thread, one epoll.  A request is due at its own time, whether a connection is free or not.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, LARGEST = 1 << 16 };

static char request[LARGEST], answer[LARGEST];
static size_t length;

static void fail(const char *what) {
    fprintf(stderr, "lb_pace: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int open_one(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void ask(int fd) {
    if (send(fd, request, length, MSG_NOSIGNAL) != (ssize_t)length) fail("send");
}

static void hear(int fd) { /* the answers are small: each comes in one piece */
    if (recv(fd, answer, sizeof answer, 0) < 12 || memcmp(answer, "HTTP/1.1 200", 12)) {
        errno = EPROTO;
        fail("an answer that is none");
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: lb_pace PORT RATE CONNECTIONS WARM SECONDS < request\n");
        return 2;
    }
    int port = atoi(argv[1]), connections = atoi(argv[3]), fds[MOST], idle[MOST], free_ = 0;
    double gap = 1e9 / atof(argv[2]), warm = atof(argv[4]) * 1e9, seconds = atof(argv[5]) * 1e9;
    if (connections < 1 || connections > MOST) {
        fprintf(stderr, "lb_pace: 1 to %d connections\n", MOST);
        return 2;
    }
    while (length < sizeof request) {
        ssize_t got = read(0, request + length, sizeof request - length);
        if (got < 0) fail("read");
        if (!got) break;
        length += got;
    }
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* wake up when asked to */
    int poller = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        fds[i] = open_one(port);
        ask(fds[i]);
        hear(fds[i]);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poller, EPOLL_CTL_ADD, fds[i], &event);
        idle[free_++] = i;
    }
    size_t count = (warm + seconds) / gap * 1.2 + 1000, due = 0, sent = 0, under_way = 0;
    int64_t *times = malloc(count * sizeof *times), *late = malloc(count * sizeof *late);
    size_t which[MOST];
    srand48(7);
    double at = now();
    int64_t begin = at + warm, end = begin + seconds;
    for (due = 0; due < count && (times[due] = at -= gap * log(1 - drand48())) < end; due++);
    while (sent < due || under_way) {
        while (sent < due && free_ && times[sent] <= now()) {
            int i = idle[--free_];
            which[i] = sent++;
            ask(fds[i]);
            under_way++;
        }
        int64_t left = sent < due && free_ ? times[sent] - now() : 1000000000;
        struct timespec wait = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
        struct epoll_event events[64];
        int ready = epoll_pwait2(poller, events, 64, &wait, NULL);
        if (ready < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int n = 0; n < ready; n++) {
            int i = events[n].data.u32;
            hear(fds[i]);
            late[which[i]] = now() - times[which[i]];
            idle[free_++] = i;
            under_way--;
        }
    }
    for (size_t n = 0; n < due; n++)
        if (times[n] >= begin) printf("%lld %lld\n", (long long)times[n], (long long)late[n]);
    return 0;
}
