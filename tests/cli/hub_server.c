/* SPDX-License-Identifier: Apache-2.0 */
/* A hub of one folder, for tests: cli_hub_server ROOT. Files of ROOT/models/ORG/NAME/ are the repository ORG/NAME.
 * Writes its two ports (hub, content network) to ROOT/ports and a line per request to ROOT/log.
 *
 * Files of more than 1000 bytes are answered as the hub answers large ones: a redirect to the other port, with
 * X-Linked-Etag; the content network refuses requests that carry a token. old/NAME redirects to new/NAME.
 * ROOT/faults holds lines "KIND PART COUNT": the next COUNT requests whose method and path contain PART go wrong so:
 *   401 403gated 404 429 503   that status          cut   half of the body      bad    one wrong byte
 *   whole  Range is ignored    416  says so          slow  pauses after half, for long */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static const char *root;
static int ports[2];

typedef struct request {
    char method[8], path[512], text[8192]; /* path without the query */
    long from;                             /* of Range; -1: none */
    bool token;
    int fd;
} request;

static void path_to(char to[1024], const char *format, ...) __attribute__((format(printf, 2, 3)));
static void path_to(char to[1024], const char *format, ...) {
    va_list args;
    const int n = snprintf(to, 1024, "%s/", root);
    va_start(args, format);
    vsnprintf(to + n, (size_t)(1024 - n), format, args);
    va_end(args);
}

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    struct stat s;
    if (!f || fstat(fileno(f), &s) != 0 || !S_ISREG(s.st_mode)) {
        if (f) fclose(f);
        return NULL;
    }
    char *text = malloc((size_t)s.st_size + 1);
    *n = fread(text, 1, (size_t)s.st_size, f);
    text[*n] = 0;
    fclose(f);
    return text;
}

/* Takes one off the count of the first fault that fits. */
static bool fault(const request *r, const char *kind) {
    char path[1024], line[600], what[32], part[256], rest[4096] = "", to[1100];
    int count;
    bool hit = false;
    path_to(path, "faults");
    FILE *f = fopen(path, "r");
    if (!f) return false;
    snprintf(to, sizeof to, "%s %s", r->method, r->path);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%31s %255s %d", what, part, &count) != 3) continue;
        if (!hit && count > 0 && strcmp(what, kind) == 0 && strstr(to, part)) {
            hit = true;
            count--;
        }
        const size_t n = strlen(rest);
        snprintf(rest + n, sizeof rest - n, "%s %s %d\n", what, part, count);
    }
    fclose(f);
    if (!hit) return false;
    f = fopen(path, "w");
    fputs(rest, f);
    fclose(f);
    return true;
}

static void send_all(int fd, const void *data, size_t n) {
    for (const char *p = data; n > 0;) {
        const ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k <= 0) return;
        p += k;
        n -= (size_t)k;
    }
}

static void reply(const request *r, const char *status, const char *headers, const char *body, size_t n) {
    char head[2048];
    const int k = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
                           status, n, headers);
    send_all(r->fd, head, (size_t)k);
    if (strcmp(r->method, "HEAD") != 0) send_all(r->fd, body, n);
}

static void hash(const char *kind, const char *head, size_t n_head, const char *data, size_t n, char hex[65]) {
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned k;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    EVP_DigestInit_ex(c, EVP_get_digestbyname(kind), NULL);
    EVP_DigestUpdate(c, head, n_head);
    EVP_DigestUpdate(c, data, n);
    EVP_DigestFinal_ex(c, d, &k);
    EVP_MD_CTX_free(c);
    for (unsigned i = 0; i < k; i++) snprintf(hex + 2 * i, 3, "%02x", d[i]);
}

static void send_content(const request *r, char *data, size_t n, const char *etag) {
    char headers[512];
    const bool part = r->from >= 0 && !fault(r, "whole");
    const size_t from = part ? (size_t)r->from : 0;
    if (part && (from >= n || fault(r, "416"))) {
        reply(r, "416 Range Not Satisfiable", "", "", 0);
        return;
    }
    if (fault(r, "bad")) data[n - 1] ^= 1;
    int k = snprintf(headers, sizeof headers, "ETag: \"%s\"\r\nX-Repo-Commit: %s\r\n", etag, COMMIT);
    if (part) snprintf(headers + k, sizeof headers - (size_t)k, "Content-Range: bytes %zu-%zu/%zu\r\n", from, n - 1, n);
    const bool get = strcmp(r->method, "GET") == 0, cut = get && fault(r, "cut"), slow = get && fault(r, "slow");
    if (!cut && !slow) {
        reply(r, part ? "206 Partial Content" : "200 OK", headers, data + from, n - from);
        return;
    }
    char head[1024];
    k = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
                 part ? "206 Partial Content" : "200 OK", n - from, headers);
    send_all(r->fd, head, (size_t)k);
    send_all(r->fd, data + from, (n - from) / 2);
    struct pollfd gone = { r->fd, POLLIN, 0 };
    if (slow) poll(&gone, 1, 20000); /* until the other side hangs up */
}

/* ---- the hub ---- */

static void list_into(char *out, size_t cap, const char *folder, const char *prefix) {
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[1024], name[512];
        struct stat s;
        if (e->d_name[0] == '.' && strcmp(e->d_name, ".gitattributes") != 0) continue;
        snprintf(path, sizeof path, "%.500s/%.255s", folder, e->d_name);
        snprintf(name, sizeof name, "%.200s%.255s", prefix, e->d_name);
        if (stat(path, &s) != 0) continue;
        const size_t n = strlen(out);
        if (S_ISDIR(s.st_mode)) {
            strcat(name, "/");
            list_into(out, cap, path, name);
        } else {
            snprintf(out + n, cap - n, "%s{\"rfilename\": \"%s\", \"size\": %lld}", n && out[n - 1] != '[' ? ", " : "",
                     name, (long long)s.st_size);
        }
    }
    if (d) closedir(d);
}

static void send_list(const request *r, const char *id, const char *revision) {
    static char files[65536];
    char folder[1024], *body = NULL;
    struct stat s;
    path_to(folder, "models/%s", id);
    if (stat(folder, &s) != 0) {
        reply(r, r->token ? "404 Not Found" : "401 Unauthorized", "X-Error-Code: RepoNotFound\r\n", "", 0);
        return;
    }
    if (strcmp(revision, "main") != 0 && strcmp(revision, COMMIT) != 0 && strcmp(revision, "refs%2Fpr%2F1") != 0) {
        reply(r, "404 Not Found", "X-Error-Code: RevisionNotFound\r\n", "", 0);
        return;
    }
    strcpy(files, "[");
    list_into(files, sizeof files, folder, "");
    if (fault(r, "evil")) strcpy(files, "[{\"rfilename\": \"../../../evil\"}");
    const int n = asprintf(&body, "{\"id\": \"%s\", \"sha\": \"%s\", \"siblings\": %s]}", id, COMMIT, files);
    reply(r, "200 OK", "Content-Type: application/json\r\n", body, (size_t)n);
    free(body);
}

static void send_file(const request *r, const char *id, const char *file) {
    char path[1024], headers[1024], etag[65], head[40];
    size_t n;
    path_to(path, "models/%s/%s", id, file);
    char *data = read_file(path, &n);
    if (!data) {
        reply(r, "404 Not Found", "X-Error-Code: EntryNotFound\r\n", "", 0);
        return;
    }
    if (n > 1000) {
        hash("sha256", "", 0, data, n, etag);
        snprintf(headers, sizeof headers,
                 "Location: http://127.0.0.1:%d/%s/%s\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\nX-Repo-Commit: "
                 "%s\r\n",
                 ports[1], id, file, etag, n, COMMIT);
        reply(r, "302 Found", headers, "", 0);
    } else {
        const int k = snprintf(head, sizeof head, "blob %zu", n) + 1;
        hash("sha1", head, (size_t)k, data, n, etag);
        send_content(r, data, n, etag);
    }
    free(data);
}

static bool refused(const request *r) {
    if (fault(r, "503")) return reply(r, "503 Service Unavailable", "", "", 0), true;
    if (fault(r, "429")) return reply(r, "429 Too Many Requests", "Retry-After: 1\r\n", "", 0), true;
    if (fault(r, "401")) return reply(r, "401 Unauthorized", "", "", 0), true;
    if (fault(r, "403gated")) return reply(r, "403 Forbidden", "X-Error-Code: GatedRepo\r\n", "", 0), true;
    if (fault(r, "404")) return reply(r, "404 Not Found", "", "", 0), true;
    return false;
}

static void answer_hub(const request *r) {
    char id[300], rest[512], headers[1024];
    if (refused(r)) return;
    if (sscanf(r->path, "/old/%511s", rest) == 1) {
        snprintf(headers, sizeof headers, "Location: /new/%s\r\n", rest);
        reply(r, "307 Temporary Redirect", headers, "", 0);
        return;
    }
    const char *revision = strstr(r->path, "/revision/"), *resolve = strstr(r->path, "/resolve/");
    if (strncmp(r->path, "/api/models/", 12) == 0 && revision) {
        snprintf(id, sizeof id, "%.*s", (int)(revision - r->path - 12), r->path + 12);
        send_list(r, id, revision + 10);
    } else if (resolve && strchr(resolve + 9, '/')) {
        snprintf(id, sizeof id, "%.*s", (int)(resolve - r->path - 1), r->path + 1);
        send_file(r, id, strchr(resolve + 9, '/') + 1);
    } else {
        reply(r, "404 Not Found", "", "", 0);
    }
}

static void answer_content(const request *r) {
    char path[1024];
    size_t n;
    if (r->token) {
        reply(r, "400 Bad Request", "X-Error-Message: a token came along\r\n", "", 0);
        return;
    }
    if (refused(r)) return;
    path_to(path, "models%s", r->path);
    char *data = read_file(path, &n);
    if (data)
        send_content(r, data, n, "content-network-etag");
    else
        reply(r, "404 Not Found", "", "", 0);
    free(data);
}

/* ---- sockets ---- */

static bool read_request(request *r) {
    size_t n = 0;
    while (n + 1 < sizeof r->text) {
        const ssize_t k = recv(r->fd, r->text + n, sizeof r->text - n - 1, 0);
        if (k <= 0) return false;
        n += (size_t)k;
        r->text[n] = 0;
        if (strstr(r->text, "\r\n\r\n")) break;
    }
    const char *range = strcasestr(r->text, "\r\nrange: bytes=");
    r->from = range ? strtol(range + 15, NULL, 10) : -1;
    r->token = strcasestr(r->text, "\r\nauthorization: bearer ") != NULL;
    if (sscanf(r->text, "%7s %511s", r->method, r->path) != 2) return false;
    r->path[strcspn(r->path, "?")] = 0;
    for (char *p; (p = strstr(r->path, "%20")) != NULL;) { /* the one escape that the tests' files need */
        *p = ' ';
        memmove(p + 1, p + 3, strlen(p + 3) + 1);
    }
    return true;
}

static void serve(int listener, bool content) {
    char log[1024];
    request r = { .fd = accept(listener, NULL, NULL) };
    if (r.fd < 0) return;
    if (read_request(&r)) {
        path_to(log, "log");
        FILE *f = fopen(log, "a");
        fprintf(f, "%s %s %s from %ld%s\n", content ? "content" : "hub", r.method, r.path, r.from,
                r.token ? " token" : "");
        fclose(f);
        if (fork() == 0) { /* a slow answer holds nobody up */
            content ? answer_content(&r) : answer_hub(&r);
            close(r.fd);
            _exit(0);
        }
    }
    close(r.fd);
}

static int listen_on(int *port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 16) != 0) exit(1);
    getsockname(fd, (struct sockaddr *)&a, &n);
    *port = ntohs(a.sin_port);
    return fd;
}

int main(int argc, char **argv) {
    char path[1024], done[1024];
    if (argc != 2) return 2;
    root = argv[1];
    signal(SIGCHLD, SIG_IGN);
    struct pollfd p[2] = { { listen_on(&ports[0]), POLLIN, 0 }, { listen_on(&ports[1]), POLLIN, 0 } };
    path_to(path, "ports.new");
    path_to(done, "ports");
    FILE *f = fopen(path, "w");
    fprintf(f, "%d %d\n", ports[0], ports[1]);
    fclose(f);
    rename(path, done);
    for (;;) {
        if (poll(p, 2, -1) < 0) return 1;
        for (int i = 0; i < 2; i++)
            if (p[i].revents) serve(p[i].fd, i == 1);
    }
}
