/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/utf8.h - UTF-8 one code point at a time (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
#ifndef LT_TOKENIZER_UTF8_H
#define LT_TOKENIZER_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Checks and reads the code point at s, n >= 1 bytes left. Returns its length, or minus the length of the longest
 * beginning of a valid sequence found there (at least 1): what a lossy reader replaces by one U+FFFD
 * (Unicode 16, section 3.9, "substitution of maximal subparts"; Rust's from_utf8_lossy). */
static inline int lt_utf8_read(const char *text, size_t n, uint32_t *cp) {
    const unsigned char *s = (const unsigned char *)text;
    const unsigned c = s[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    if (c < 0xC2 || c > 0xF4) return -1;
    const int len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    unsigned low = 0x80, high = 0xBF; /* of the second byte; they rule out overlong forms and surrogates */
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
    uint32_t value = c & (0x7Fu >> len);
    for (int i = 1; i < len; i++) {
        if ((size_t)i >= n || s[i] < low || s[i] > high) return -i;
        value = value << 6 | (s[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    *cp = value;
    return len;
}

/* Length of the sequence that starts with this byte, in text known to be valid. */
static inline size_t lt_utf8_length(char first) {
    const unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* The code point at s in text known to be valid. */
static inline uint32_t lt_utf8_get(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) return s[0];
    if (s[0] < 0xE0) return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    if (s[0] < 0xF0) return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

/* Start of the code point that ends before offset at (> 0), in text known to be valid. */
static inline size_t lt_utf8_before(const char *text, size_t at) {
    do at--;
    while (((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

/* Writes cp (a scalar value) to out[4]; returns the length. */
static inline size_t lt_utf8_put(char *out, uint32_t cp) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

#endif
