/* SPDX-License-Identifier: Apache-2.0 */
/* A mapped file that became shorter, or whose disk failed, is a SIGBUS at the next touch. The program says which file,
 * in one line, and ends; what it was writing stays unfinished, as after a kill. Nothing but system calls in here. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { PATH_BYTES = 512 };

/* Reads /proc/self/maps one character at a time: "start-end perms offset dev inode   path". */
typedef struct maps {
    int fd;
    char buf[512];
    size_t at, n;
} maps;

static int next_char(maps *m) {
    if (m->at == m->n) {
        const ssize_t got = read(m->fd, m->buf, sizeof m->buf);
        if (got <= 0) return -1;
        m->n = (size_t)got;
        m->at = 0;
    }
    return (unsigned char)m->buf[m->at++];
}

/* A hexadecimal number and the character behind it. */
static uintptr_t next_number(maps *m, int *end) {
    uintptr_t v = 0;
    int c;
    while ((c = next_char(m)) >= 0) {
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) break;
        v = v << 4 | (uintptr_t)digit;
    }
    *end = c;
    return v;
}

/* The path of a line whose numbers have been read. */
static void read_path(maps *m, char *path, size_t cap) {
    size_t n = 0;
    int c, fields = 0, last = ' ';
    while (fields < 4 && (c = next_char(m)) >= 0 && c != '\n') { /* perms, offset, dev, inode */
        fields += c == ' ' && last != ' ';
        last = c;
    }
    while ((c = next_char(m)) >= 0 && c != '\n')
        if ((n > 0 || c != ' ') && n + 1 < cap) path[n++] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    path[n] = 0;
}

/* The file that is mapped at an address; "a mapped file" where that is not known. */
static void file_at(const void *address, char path[PATH_BYTES]) {
    maps m = { .fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC) };
    char line[PATH_BYTES];
    int end = 0;
    strcpy(path, "a mapped file");
    while (m.fd >= 0 && end >= 0) {
        const uintptr_t from = next_number(&m, &end), to = end == '-' ? next_number(&m, &end) : 0;
        if (end < 0) break;
        read_path(&m, line, sizeof line);
        if ((uintptr_t)address < from || (uintptr_t)address >= to) continue;
        if (line[0]) strcpy(path, line);
        break;
    }
}

static void say(const char *text) {
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static atomic_flag told = ATOMIC_FLAG_INIT;

static void on_bus(int number, siginfo_t *info, void *context) {
    char path[PATH_BYTES];
    (void)context;
    if (info->si_code != BUS_ADRERR) { /* no file: a fault of ours */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    while (atomic_flag_test_and_set(&told)) pause(); /* threads fault together: one of them tells, and ends all */
    file_at(info->si_addr, path);
    say("lathe: error: file became shorter while it was read, or its disk failed (");
    say(path);
    say(")\n");
    _exit(LT_EIO);
}

void cli_catch_bus(void) {
    struct sigaction bus = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
    sigemptyset(&bus.sa_mask);
    sigaction(SIGBUS, &bus, NULL);
}
