/* The accelerator: what is done for each message, in C. Stable ABI. Each function has a twin in Python, same arguments,
 * same result, same errors, and gets from it, by its setup_*(), what both share.
 *
 * scan(data, max_lines, max_line): the bytes of a message to its start line and header lines, RFC 3261 §7 and §25, as
 *     scan.py does. Names are looked up by their exact spelling in a small table that canonical() fills.
 * plain_mandatory(fields): read_mandatory() of mandatory.py for the usual spellings; None for any other.
 * plain_uri(text): plain() of uri.py, a SIP URI in its usual spelling; None for any other.
 * name_addr(text), via(text), cseq(text): NameAddr.parse, Via.parse and CSeq.parse. The first two put a tag or a branch to
 *     what is remembered.
 * head(start_line, lines, length): head() of head.py, which it calls for text that is not UTF-8 and for odd Content-Lengths.
 * usual_length(data, at, section, max_lines, max_line): usual_length() of framer.py.
 * echo(lines, echoed, start_line, tag): echo() of echo.py, which it calls for text that is not UTF-8.
 */
/* What the functions take and return. The same number is in speedups.py, which refuses a build of another one. */
#define INTERFACE 3
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <stdio.h>
#include <string.h>

enum { NO_END, BAD_BREAK, NO_COLON, BAD_NAME, MANY_LINES, LONG_LINE };

#define SLOTS 4096         /* a power of two, four times the spellings kept, so that probes are short */
#define SPELLINGS 1024     /* CACHED_NAMES of scan.py */
#define SPELLING_LENGTH 40 /* longer names ask canonical() each time */

typedef struct {
    PyObject *name;   /* the canonical name */
    int exact;        /* spelled just like it */
    int length;
    char spelled[SPELLING_LENGTH];
} Spelling;

static Spelling table[SLOTS];
static int spellings;
static PyObject *canonical, *fail, *mandatory, *tuple_new, *python_echo, *python_head;
static PyObject *parse_error, *no_parameters;            /* ParseError; EMPTY of parameters.py */
static PyObject *pairs_name, *text_name, *tag_name, *branch_name; /* "_pairs", "_text", "tag", "branch" */
static PyObject *via_name, *from_name, *to_name, *call_id_name, *cseq_name;
static PyObject *usual; /* ": ", what stands in the middle of a line that came as `Name: value` */

/* token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" ) */
static const unsigned char is_token[256] = {
    ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1,
    ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1, ['H'] = 1, ['I'] = 1, ['J'] = 1,
    ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1, ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1,
    ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1, ['Y'] = 1, ['Z'] = 1,
    ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1, ['h'] = 1, ['i'] = 1, ['j'] = 1,
    ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1, ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1,
    ['u'] = 1, ['v'] = 1, ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1,
    ['-'] = 1, ['.'] = 1, ['!'] = 1, ['%'] = 1, ['*'] = 1, ['_'] = 1, ['+'] = 1, ['`'] = 1, ['\''] = 1, ['~'] = 1,
};

static void forget_all(void)
{
    for (int i = 0; i < SLOTS; i++)
        Py_CLEAR(table[i].name);
    spellings = 0;
}

/* Return a new reference to the canonical name of a spelling, and whether it is spelled so. */
static PyObject *name_of(const char *spelled, Py_ssize_t length, int *exact)
{
    unsigned hash = 2166136261u;
    Spelling *slot = NULL;
    if (length < SPELLING_LENGTH) {
        for (Py_ssize_t i = 0; i < length; i++)
            hash = (hash ^ (unsigned char)spelled[i]) * 16777619u;
        hash ^= hash >> 15;
        for (unsigned i = hash & (SLOTS - 1);; i = (i + 1) & (SLOTS - 1)) {
            slot = &table[i];
            if (!slot->name)
                break;
            if (slot->length == length && !memcmp(slot->spelled, spelled, length)) {
                *exact = slot->exact;
                Py_INCREF(slot->name);
                return slot->name;
            }
        }
    }
    PyObject *argument = PyUnicode_FromStringAndSize(spelled, length); /* a token: ASCII */
    if (!argument)
        return NULL;
    PyObject *name = PyObject_CallFunctionObjArgs(canonical, argument, NULL);
    if (!name) {
        Py_DECREF(argument);
        return NULL;
    }
    *exact = PyUnicode_Compare(name, argument) == 0;
    Py_DECREF(argument);
    /* canonical() may have let other code run: the slot is taken only if it is still free */
    if (slot && !slot->name && spellings < SPELLINGS) {
        PyUnicode_InternInPlace(&name);
        Py_INCREF(name);
        slot->name = name;
        slot->exact = *exact;
        slot->length = (int)length;
        memcpy(slot->spelled, spelled, length);
        spellings++;
    }
    return name;
}

/* Call fail(problem, data, offset), which raises. */
static PyObject *failed(int problem, PyObject *data, Py_ssize_t offset)
{
    PyObject *result = PyObject_CallFunction(fail, "iOn", problem, data, offset);
    Py_XDECREF(result);
    return NULL;
}

/* Return the end of the line that starts at `at`, before its line break; NULL with an exception set when it has none. */
static const char *line_end(PyObject *data, const char *begin, const char *stop, const char *at, int crlf, Py_ssize_t max_line)
{
    const char *end = memchr(at, '\n', stop - at);
    if (!end) {
        failed(stop - at > max_line ? LONG_LINE : NO_END, data, at - begin);
        return NULL;
    }
    if (crlf) {
        end--;
        if (end < at || *end != '\r') {
            failed(BAD_BREAK, data, end + 1 - begin);
            return NULL;
        }
    }
    const char *bare = memchr(at, '\r', end - at);
    if (bare) {
        failed(BAD_BREAK, data, bare - begin);
        return NULL;
    }
    if (end - at > max_line) {
        failed(LONG_LINE, data, at - begin);
        return NULL;
    }
    return end;
}

/* Return the value of a folded line: its pieces stripped and joined by one blank. */
static PyObject *unfolded(const char *at, const char *end)
{
    char *text = PyMem_Malloc(end - at + 1);
    if (!text)
        return PyErr_NoMemory();
    char *out = text;
    while (at < end) {
        const char *stop = memchr(at, '\n', end - at);
        const char *next = stop ? stop + 1 : end;
        if (!stop)
            stop = end;
        else if (stop > at && stop[-1] == '\r')
            stop--;
        while (at < stop && (*at == ' ' || *at == '\t'))
            at++;
        while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if (out > text)
            *out++ = ' ';
        memcpy(out, at, stop - at);
        out += stop - at;
        at = next;
    }
    while (out > text && out[-1] == ' ')
        out--;
    PyObject *value = PyUnicode_DecodeUTF8(text, out - text, "surrogateescape");
    PyMem_Free(text);
    return value;
}

static int add_field(PyObject *fields, PyObject *name, PyObject *value)
{
    PyObject *there = PyDict_GetItemWithError(fields, name);
    if (!there)
        return PyErr_Occurred() ? -1 : PyDict_SetItem(fields, name, value);
    if (PyList_Check(there))
        return PyList_Append(there, value);
    PyObject *both = PyList_New(2);
    if (!both)
        return -1;
    Py_INCREF(there);
    Py_INCREF(value);
    PyList_SetItem(both, 0, there);
    PyList_SetItem(both, 1, value);
    int result = PyDict_SetItem(fields, name, both);
    Py_DECREF(both);
    return result;
}

/* Add one header line, from `at` to `end`, to lines and fields. */
static int add_line(PyObject *data, const char *begin, const char *at, const char *end, int folded, int crlf,
                    PyObject *lines, PyObject *fields)
{
    const char *colon = at;
    while (colon < end && is_token[(unsigned char)*colon])
        colon++;
    const char *name_end = colon;
    while (colon < end && (*colon == ' ' || *colon == '\t'))
        colon++;
    if (colon == end || *colon != ':' || name_end == at) {
        failed(memchr(at, ':', end - at) ? BAD_NAME : NO_COLON, data, at - begin);
        return -1;
    }
    const char *value_at = colon + 1, *value_end = end;
    int exact;
    PyObject *name = name_of(at, name_end - at, &exact);
    if (!name)
        return -1;
    PyObject *value;
    if (folded) {
        value = unfolded(value_at, value_end);
    } else {
        while (value_at < value_end && (*value_at == ' ' || *value_at == '\t'))
            value_at++;
        while (value_end > value_at && (value_end[-1] == ' ' || value_end[-1] == '\t'))
            value_end--;
        value = PyUnicode_DecodeUTF8(value_at, value_end - value_at, "surrogateescape");
    }
    if (!value) {
        Py_DECREF(name);
        return -1;
    }
    int as_usual = exact && !folded && name_end == colon && value_at == colon + 2 && colon[1] == ' ' && value_end == end;
    PyObject *line = as_usual ? Py_NewRef(usual) : PyUnicode_DecodeUTF8(at, end - at, "surrogateescape");
    if (line && folded && !crlf) { /* so that it goes out as a fold, not as a bare LF */
        PyObject *broken = line;
        line = PyObject_CallMethod(broken, "replace", "ss", "\n", "\r\n");
        Py_DECREF(broken);
    }
    PyObject *entry = line ? PyTuple_New(3) : NULL;
    int result = -1;
    if (entry) {
        PyTuple_SetItem(entry, 0, Py_NewRef(name));
        PyTuple_SetItem(entry, 1, Py_NewRef(line));
        PyTuple_SetItem(entry, 2, Py_NewRef(value));
        result = PyList_Append(lines, entry);
        Py_DECREF(entry);
        if (!result)
            result = add_field(fields, name, value);
    }
    Py_XDECREF(line);
    Py_DECREF(value);
    Py_DECREF(name);
    return result;
}

static PyObject *scan(PyObject *module, PyObject *const *args, Py_ssize_t count_of_args)
{
    (void)module;
    if (count_of_args != 3) {
        PyErr_SetString(PyExc_TypeError, "scan(data, max_lines, max_line)");
        return NULL;
    }
    PyObject *data = args[0];
    Py_ssize_t max_lines = PyLong_AsSsize_t(args[1]), max_line = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    char *begin;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &begin, &size))
        return NULL;
    const char *stop = begin + size;
    const char *first = memchr(begin, '\n', size);
    if (!first)
        return failed(NO_END, data, 0);
    int crlf = first > begin && first[-1] == '\r';
    int width = crlf ? 2 : 1;
    const char *end = line_end(data, begin, stop, begin, crlf, max_line);
    if (!end)
        return NULL;
    PyObject *start_line = PyUnicode_DecodeUTF8(begin, end - begin, "surrogateescape");
    PyObject *lines = PyList_New(0);
    PyObject *fields = PyDict_New();
    PyObject *result = NULL;
    if (!start_line || !lines || !fields)
        goto done;
    const char *at = end + width;
    Py_ssize_t count = 0;
    for (;;) {
        end = line_end(data, begin, stop, at, crlf, max_line);
        if (!end)
            goto done;
        if (end == at)
            break;
        const char *line = at;
        int folded = 0;
        at = end + width;
        while (at < stop && (*at == ' ' || *at == '\t')) {
            folded = 1;
            end = line_end(data, begin, stop, at, crlf, max_line);
            if (!end)
                goto done;
            at = end + width;
            if (end - line > max_line) {
                failed(LONG_LINE, data, line - begin);
                goto done;
            }
        }
        if (count++ >= max_lines) {
            failed(MANY_LINES, data, line - begin);
            goto done;
        }
        if (add_line(data, begin, line, end, folded, crlf, lines, fields))
            goto done;
    }
    result = PyTuple_New(4);
    if (result) {
        PyTuple_SetItem(result, 0, Py_NewRef(start_line));
        PyTuple_SetItem(result, 1, Py_NewRef(lines));
        PyTuple_SetItem(result, 2, Py_NewRef(fields));
        PyTuple_SetItem(result, 3, PyLong_FromSsize_t(at + width - begin));
        if (PyErr_Occurred())
            Py_CLEAR(result);
    }
done:
    Py_XDECREF(start_line);
    Py_XDECREF(lines);
    Py_XDECREF(fields);
    return result;
}

/* ---- plain_mandatory(): the mandatory fields of a message in their usual spellings */

#define MOST_PARAMETERS 64 /* PARAMETERS of parameters.py */
#define LONGEST_URI 512    /* longer ones are for URI.parse, which counts */
#define LONGEST_KEY 512

typedef struct {
    const char *at;
    Py_ssize_t length; /* -1: not there, or without a value */
    int there;
} Parameter;

static int is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static int is_called(const char *name, Py_ssize_t length, const char *wanted)
{
    if (length != (Py_ssize_t)strlen(wanted))
        return 0;
    for (Py_ssize_t i = 0; i < length; i++)
        if ((name[i] | 0x20) != wanted[i])
            return 0;
    return 1;
}

/* Read *( SEMI token [ EQUAL token ] ) up to stop; note the parameter of each wanted name. 0 when one stands twice, or
 * anything else is there. */
static int read_parameters(const char *at, const char *stop, const char *const *wanted, Parameter *found, int count)
{
    for (int i = 0; i < count; i++)
        found[i] = (Parameter){NULL, -1, 0};
    for (int n = 0; at < stop; n++) {
        if (*at++ != ';' || n == MOST_PARAMETERS)
            return 0;
        const char *name = at;
        while (at < stop && is_token[(unsigned char)*at])
            at++;
        Py_ssize_t name_length = at - name, value_length = -1;
        if (!name_length)
            return 0;
        const char *value = NULL;
        if (at < stop && *at == '=') {
            value = ++at;
            while (at < stop && (is_token[(unsigned char)*at] || *at == ':' || *at == '[' || *at == ']'))
                at++;
            value_length = at - value;
            if (!value_length)
                return 0;
        }
        for (int i = 0; i < count; i++) {
            if (!is_called(name, name_length, wanted[i]))
                continue;
            if (found[i].there)
                return 0;
            found[i] = (Parameter){value, value_length, 1};
        }
    }
    return 1;
}

/* Read [ ":" port ] at *at; -1 without one, 0 when it is no port. */
static int read_port(const char **at, const char *stop)
{
    if (*at == stop || **at != ':')
        return -1;
    int port = 0, digits = 0;
    for ((*at)++; *at < stop && **at >= '0' && **at <= '9' && digits < 6; (*at)++, digits++)
        port = port * 10 + (**at - '0');
    return digits && digits < 6 && port < 65536 ? port : 0;
}

static const char *read_host(const char *at, const char *stop)
{
    if (at == stop || !is_alnum(*at))
        return NULL;
    while (at < stop && (is_alnum(*at) || *at == '.' || *at == '-'))
        at++;
    return at;
}

/* True for sip:user@host:port;name=value in characters that need no second look. */
static int is_plain_uri(const char *at, const char *stop)
{
    if (stop - at > LONGEST_URI || stop - at < 5 || memcmp(at, "sip", 3))
        return 0;
    at += at[3] == 's' ? 4 : 3;
    if (*at++ != ':')
        return 0;
    const char *host = at;
    while (at < stop && (is_alnum(*at) || *at == '.' || *at == '-' || *at == '_' || *at == '+'))
        at++;
    if (at < stop && *at == '@') {
        if (at == host)
            return 0;
        host = at + 1;
    }
    at = read_host(host, stop);
    if (!at || !read_port(&at, stop))
        return 0;
    for (int n = 0; at < stop; n++) {
        if (*at++ != ';' || n == MOST_PARAMETERS)
            return 0;
        const char *name = at;
        while (at < stop && (is_alnum(*at) || *at == '-' || *at == '.'))
            at++;
        if (at == name)
            return 0;
        if (at < stop && *at == '=') {
            const char *value = ++at;
            while (at < stop && (is_alnum(*at) || *at == '-' || *at == '.' || *at == '_'))
                at++;
            if (at == value)
                return 0;
        }
    }
    return 1;
}

/* Read [ display-name ] <URI> *( SEMI parameter ); note the tag. 0 for any other text. */
static int read_name_addr(const char *at, const char *stop, Parameter *tag)
{
    static const char *const wanted[] = {"tag"};
    if (at < stop && *at == '"') {
        for (at++; at < stop && *at != '"' && *at != '\\'; at++)
            ;
        if (at == stop || *at++ != '"')
            return 0;
        while (at < stop && (*at == ' ' || *at == '\t'))
            at++;
    } else {
        while (at < stop && (is_token[(unsigned char)*at] || *at == ' ' || *at == '\t'))
            at++;
    }
    if (at == stop || *at++ != '<')
        return 0;
    const char *close = memchr(at, '>', stop - at);
    return close && is_plain_uri(at, close) && read_parameters(close + 1, stop, wanted, tag, 1);
}

static const char *text_of(PyObject *fields, PyObject *name, const char **stop)
{
    PyObject *value = PyDict_GetItemWithError(fields, name);
    if (value && name == via_name && PyList_Check(value) && PyList_Size(value))
        value = PyList_GetItem(value, 0);
    if (!value || !PyUnicode_Check(value))
        return NULL;
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(value, &length);
    if (!text) { /* surrogates: bytes that are not UTF-8 */
        PyErr_Clear();
        return NULL;
    }
    *stop = text + length;
    return text;
}

static PyObject *text_or_none(const Parameter *parameter)
{
    if (parameter->length < 0)
        return Py_NewRef(Py_None);
    return PyUnicode_FromStringAndSize(parameter->at, parameter->length);
}

/* The port of a Via without one, by its transport (TRANSPORTS of iana.py); 0 for a transport that is not usual. */
static int default_port(const char *transport, Py_ssize_t length)
{
    static const struct {
        const char *name;
        int port;
    } usual_ones[] = {{"UDP", 5060}, {"TCP", 5060}, {"TLS", 5061}, {"WSS", 443}, {"WS", 80}};
    for (size_t i = 0; i < sizeof usual_ones / sizeof *usual_ones; i++)
        if ((Py_ssize_t)strlen(usual_ones[i].name) == length && !memcmp(usual_ones[i].name, transport, length))
            return usual_ones[i].port;
    return 0;
}

/* Return one of the usual texts, which are made once; a new text for any other. */
static PyObject *shared_text(const char *at, Py_ssize_t length)
{
    static const char *const texts[] = {
        "UDP", "TCP", "TLS", "WSS", "WS", "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "REFER",
        "SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH",
    };
    static PyObject *made[sizeof texts / sizeof *texts];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (*texts[i] == *at && !strncmp(texts[i], at, length) && !texts[i][length]) {
            if (!made[i] && !(made[i] = PyUnicode_InternFromString(texts[i])))
                return NULL;
            return Py_NewRef(made[i]);
        }
    return PyUnicode_FromStringAndSize(at, length);
}

/* Return the text of a host. Messages of the same host share it, as long as few others come between them: a
   request that rings has it for long. */
static PyObject *host_text(const char *at, Py_ssize_t length)
{
    static struct {
        PyObject *made;
        Py_ssize_t length;
        char text[40];
    } recent[16], *place;
    if (length < 2 || length > (Py_ssize_t)sizeof place->text)
        return PyUnicode_FromStringAndSize(at, length);
    place = recent + ((at[length - 1] + 5 * at[length - 2] + length) & 15);
    if (place->length != length || memcmp(place->text, at, length)) {
        PyObject *made = PyUnicode_FromStringAndSize(at, length), *old = place->made;
        if (!made)
            return NULL;
        place->made = made;
        place->length = length;
        memcpy(place->text, at, length);
        Py_XDECREF(old);
    }
    return Py_NewRef(place->made);
}

static PyObject *plain_mandatory(PyObject *module, PyObject *fields)
{
    static const char *const in_via[] = {"branch", "rport", "received"};
    Parameter via[3], from_tag, to_tag;
    const char *stop, *at;
    (void)module;

    at = text_of(fields, via_name, &stop);
    if (!at || stop - at < 10 || memcmp(at, "SIP/2.0/", 8))
        Py_RETURN_NONE;
    const char *comma = memchr(at, ',', stop - at); /* Vias of other hops on the same line are not read */
    if (comma) /* a comma in quotes: read_parameters() takes no quote */
        for (stop = comma; stop > at && (stop[-1] == ' ' || stop[-1] == '\t');)
            stop--;
    const char *transport = at += 8;
    while (at < stop && *at >= 'A' && *at <= 'Z')
        at++;
    const char *transport_end = at;
    if (at == transport || at == stop || *at++ != ' ')
        Py_RETURN_NONE;
    const char *host = at;
    at = read_host(at, stop);
    int usual_port = default_port(transport, transport_end - transport);
    if (!at || !usual_port)
        Py_RETURN_NONE;
    const char *host_end = at;
    for (const char *c = host; c < host_end; c++)
        if (*c >= 'A' && *c <= 'Z')
            Py_RETURN_NONE; /* the key wants lower case */
    int port = read_port(&at, stop);
    if (!port || !read_parameters(at, stop, in_via, via, 3))
        Py_RETURN_NONE;

    at = text_of(fields, from_name, &stop);
    if (!at || !read_name_addr(at, stop, &from_tag))
        Py_RETURN_NONE;
    at = text_of(fields, to_name, &stop);
    if (!at || !read_name_addr(at, stop, &to_tag))
        Py_RETURN_NONE;
    at = text_of(fields, call_id_name, &stop);
    if (!at || at == stop || *at == '@')
        Py_RETURN_NONE;
    while (at < stop)
        if (*at < '!' || *at++ > '~')
            Py_RETURN_NONE;

    at = text_of(fields, cseq_name, &stop);
    if (!at)
        Py_RETURN_NONE;
    long cseq = 0;
    int digits = 0;
    for (; at < stop && *at >= '0' && *at <= '9' && digits < 10; at++, digits++)
        cseq = cseq * 10 + (*at - '0');
    if (!digits || digits > 9 || at == stop || *at++ != ' ' || at == stop)
        Py_RETURN_NONE;
    const char *method = at;
    while (at < stop && *at >= 'A' && *at <= 'Z')
        at++;
    if (at < stop)
        Py_RETURN_NONE;

    /* the transaction key: branch host:port method, see mandatory.py */
    PyObject *key = NULL;
    Py_ssize_t branch_length = via[0].length, host_length = host_end - host, method_length = stop - method;
    if (branch_length + host_length + method_length >= LONGEST_KEY - 16)
        Py_RETURN_NONE;
    if (branch_length > 7 && !memcmp(via[0].at, "z9hG4bK", 7)) {
        char text[LONGEST_KEY], number[8], *out = text;
        int is_ack = method_length == 3 && !memcmp(method, "ACK", 3);
        memcpy(out, via[0].at, branch_length);
        out += branch_length;
        *out++ = ' ';
        memcpy(out, host, host_length);
        out += host_length;
        *out++ = ':';
        int n = 0, value = port > 0 ? port : usual_port;
        for (; value; value /= 10)
            number[n++] = '0' + value % 10;
        while (n)
            *out++ = number[--n];
        *out++ = ' ';
        memcpy(out, is_ack ? "INVITE" : method, is_ack ? 6 : method_length);
        out += is_ack ? 6 : method_length;
        key = PyUnicode_FromStringAndSize(text, out - text);
    } else {
        key = Py_NewRef(Py_None);
    }

    PyObject *values = PyTuple_New(11), *result = NULL;
    if (!values || !key) {
        Py_XDECREF(values);
        Py_XDECREF(key);
        return NULL;
    }
    PyTuple_SetItem(values, 0, shared_text(transport, transport_end - transport));
    PyTuple_SetItem(values, 1, host_text(host, host_length));
    PyTuple_SetItem(values, 2, port > 0 ? PyLong_FromLong(port) : Py_NewRef(Py_None));
    PyTuple_SetItem(values, 3, text_or_none(&via[0]));
    PyTuple_SetItem(values, 4, PyBool_FromLong(via[1].there));
    PyTuple_SetItem(values, 5, PyBool_FromLong(via[2].there));
    PyTuple_SetItem(values, 6, text_or_none(&from_tag));
    PyTuple_SetItem(values, 7, text_or_none(&to_tag));
    PyTuple_SetItem(values, 8, PyLong_FromLong(cseq));
    PyTuple_SetItem(values, 9, shared_text(method, method_length));
    PyTuple_SetItem(values, 10, key);
    if (!PyErr_Occurred())
        result = PyObject_CallFunctionObjArgs(tuple_new, mandatory, values, NULL);
    Py_DECREF(values);
    return result;
}

/* ---- request_key() and has_to_tag(): a request before it is parsed, see peek.py */

#define LONGEST_PEEKED 512

/* The bytes of a message; 0 unless it is bytes. */
static const char *peeked(PyObject *data, const char **stop)
{
    if (!PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "bytes are wanted");
        return NULL;
    }
    const char *at = PyBytes_AsString(data);
    *stop = at + PyBytes_Size(data);
    return at;
}

static PyObject *request_key(PyObject *module, PyObject *data)
{
    static const char version[] = " SIP/2.0\r\nVia: SIP/2.0/";
    static const char *const in_via[] = {"branch"};
    const char *stop, *at = peeked(data, &stop), *method = at;
    Parameter branch;
    (void)module;

    if (!at)
        return NULL;
    while (at < stop && *at >= 'A' && *at <= 'Z')
        at++;
    Py_ssize_t method_length = at - method;
    if (!method_length || at == stop || *at != ' ')
        Py_RETURN_NONE;
    const char *uri = ++at;
    while (at < stop && *at != ' ' && *at != '\r' && *at != '\n')
        at++;
    if (at == uri || stop - at < (Py_ssize_t)sizeof version + 4 || memcmp(at, version, sizeof version - 1))
        Py_RETURN_NONE;
    at += sizeof version - 1;
    const char *space = memchr(at, ' ', stop - at);
    int usual_port = space ? default_port(at, space - at) : 0;
    if (!usual_port)
        Py_RETURN_NONE;
    at = space + 1;
    const char *end = memchr(at, '\r', stop - at);
    if (!end || stop - end < 3 || end[1] != '\n' || end[2] == ' ' || end[2] == '\t')
        Py_RETURN_NONE; /* cut off, or folded */
    const char *host = at;
    at = read_host(at, end);
    if (!at)
        Py_RETURN_NONE;
    const char *host_end = at;
    for (const char *c = host; c < host_end; c++)
        if (*c >= 'A' && *c <= 'Z')
            Py_RETURN_NONE; /* the key wants lower case */
    int port = read_port(&at, end);
    if (!port || !read_parameters(at, end, in_via, &branch, 1) || branch.length < 8 || memcmp(branch.at, "z9hG4bK", 7))
        Py_RETURN_NONE;
    Py_ssize_t host_length = host_end - host;
    if (branch.length + host_length + method_length > LONGEST_PEEKED)
        Py_RETURN_NONE;
    char text[LONGEST_PEEKED + 32], *out = text;
    int is_ack = method_length == 3 && !memcmp(method, "ACK", 3);
    memcpy(out, branch.at, branch.length);
    out += branch.length;
    *out++ = ' ';
    memcpy(out, host, host_length);
    out += host_length;
    out += snprintf(out, 8, ":%d ", port > 0 ? port : usual_port);
    memcpy(out, is_ack ? "INVITE" : method, is_ack ? 6 : method_length);
    out += is_ack ? 6 : method_length;
    return PyUnicode_FromStringAndSize(text, out - text);
}

static PyObject *has_to_tag(PyObject *module, PyObject *data)
{
    const char *stop, *at = peeked(data, &stop);
    (void)module;

    if (!at)
        return NULL;
    while ((at = memchr(at, '\r', stop - at)) && stop - at > 4) {
        const char *name = at + 2;
        if (*++at != '\n' || (*name | 0x20) != 't')
            continue;
        const char *colon = name + 1 + ((name[1] | 0x20) == 'o');
        while (colon < stop && (*colon == ' ' || *colon == '\t'))
            colon++;
        if (colon == stop || *colon != ':')
            continue;
        const char *end = memchr(colon, '\r', stop - colon);
        if (!end || memchr(colon, '\n', end - colon) || stop - end < 2 || end[1] != '\n' ||
            (stop - end > 2 && (end[2] == ' ' || end[2] == '\t')))
            break;
        for (const char *c = colon; c + 3 <= end; c++)
            if (is_called(c, 3, "tag"))
                Py_RETURN_TRUE;
        Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE; /* not found: parse() decides */
}

/* ---- usual_length(): where a message of a stream ends, see framer.py */

#define LONGEST_LENGTH 8 /* digits */

/* Return the number in a Content-Length; -1 for any but 1 to LONGEST_LENGTH digits. */
static Py_ssize_t read_length(const char *at, const char *stop)
{
    while (at < stop && (*at == ' ' || *at == '\t'))
        at++;
    while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    if (at == stop || stop - at > LONGEST_LENGTH)
        return -1;
    Py_ssize_t value = 0;
    for (; at < stop; at++) {
        if (*at < '0' || *at > '9')
            return -1;
        value = value * 10 + (*at - '0');
    }
    return value;
}

/* The same loop as in scan(), without an object for each line. A folded line is for scan(). */
static Py_ssize_t measure(const char *begin, const char *stop, Py_ssize_t max_lines, Py_ssize_t max_line)
{
    Py_ssize_t length = -1, count = -1; /* the start line is none of them */
    for (const char *at = begin;; count++) {
        const char *end = memchr(at, '\n', stop - at);
        if (!end || end == at || *--end != '\r' || memchr(at, '\r', end - at) || end - at > max_line)
            return 0;
        if (end == at)
            return length < 0 ? 0 : end + 2 - begin + length;
        if (count >= max_lines)
            return 0;
        if (count >= 0) {
            const char *name_end = at, *colon;
            while (is_token[(unsigned char)*name_end])
                name_end++;
            for (colon = name_end; *colon == ' ' || *colon == '\t';)
                colon++;
            if (name_end == at || *colon != ':')
                return 0;
            if (is_called(at, name_end - at, "content-length") || is_called(at, name_end - at, "l")) {
                if (length >= 0)
                    return 0;
                length = read_length(colon + 1, end);
                if (length < 0)
                    return 0;
            }
        }
        at = end + 2;
    }
}

static PyObject *usual_length(PyObject *module, PyObject *const *args, Py_ssize_t count_of_args)
{
    (void)module;
    if (count_of_args != 5) {
        PyErr_SetString(PyExc_TypeError, "usual_length(data, at, section, max_lines, max_line)");
        return NULL;
    }
    const char *stop, *begin;
    if (PyByteArray_Check(args[0])) {
        begin = PyByteArray_AsString(args[0]);
        stop = begin + PyByteArray_Size(args[0]);
    } else if (!(begin = peeked(args[0], &stop)))
        return NULL;
    Py_ssize_t at = PyLong_AsSsize_t(args[1]), section = PyLong_AsSsize_t(args[2]);
    Py_ssize_t max_lines = PyLong_AsSsize_t(args[3]), max_line = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (at < 0 || section < 0 || stop - begin < at)
        return PyLong_FromLong(0);
    begin += at;
    return PyLong_FromSsize_t(measure(begin, stop - begin > section ? begin + section : stop, max_lines, max_line));
}

/* ---- echo(): an answer that is nothing but a status */

#define MOST_ECHOED 64 /* lines; the Python twin takes longer answers */

typedef struct {
    const char *name, *value;
    Py_ssize_t name_length, value_length;
    int is_to;
} Echoed;

/* Note name and value of one line. -1 when they are not UTF-8. */
static int note_line(PyObject *line, Echoed *noted)
{
    noted->name = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(line, 0), &noted->name_length);
    if (!noted->name)
        return -1;
    noted->is_to = noted->name_length == 2 && !memcmp(noted->name, "To", 2);
    noted->value = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(line, 2), &noted->value_length);
    return noted->value ? 0 : -1;
}

static PyObject *echo(PyObject *module, PyObject *const *args, Py_ssize_t count_of_args)
{
    static const char end[] = "Content-Length: 0\r\n\r\n";
    Echoed noted[MOST_ECHOED];
    (void)module;
    if (count_of_args != 4 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "echo(lines, echoed, start_line, tag)");
        return NULL;
    }
    PyObject *lines = args[0];
    Py_ssize_t head_length, tag_length, count = 0;
    const char *head = PyUnicode_AsUTF8AndSize(args[2], &head_length);
    const char *tag = head ? PyUnicode_AsUTF8AndSize(args[3], &tag_length) : NULL;
    if (!tag)
        return NULL;
    Py_ssize_t size = head_length + 2 + sizeof end - 1, all = PyList_Size(lines);
    for (Py_ssize_t i = 0; i < all; i++) {
        PyObject *line = PyList_GetItem(lines, i);
        int wanted = line && PyTuple_Check(line) && PyTuple_Size(line) == 3 ? PySet_Contains(args[1], PyTuple_GetItem(line, 0)) : -1;
        if (wanted < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "a line is (name, how it came, value)");
            return NULL;
        }
        if (!wanted)
            continue;
        if (count == MOST_ECHOED || note_line(line, &noted[count])) {
            PyErr_Clear();
            return PyObject_CallFunctionObjArgs(python_echo, lines, args[1], args[2], args[3], NULL);
        }
        PyObject *raw = PyTuple_GetItem(line, 1);
        Py_ssize_t raw_length;
        const char *raw_text = PyUnicode_AsUTF8AndSize(raw, &raw_length);
        if (!raw_text) {
            PyErr_Clear();
            return PyObject_CallFunctionObjArgs(python_echo, lines, args[1], args[2], args[3], NULL);
        }
        Echoed *one = &noted[count++];
        if (one->is_to && tag_length) {
            size += one->name_length + 2 + one->value_length + 5 + tag_length + 2;
        } else {
            one->is_to = 0;
            if (raw != usual && !(raw_length == 2 && !memcmp(raw_text, ": ", 2))) {
                one->name_length = 0;
                one->value = raw_text;
                one->value_length = raw_length;
            }
            size += (one->name_length ? one->name_length + 2 : 0) + one->value_length + 2;
        }
    }
    PyObject *answer = PyBytes_FromStringAndSize(NULL, size);
    char *out = answer ? PyBytes_AsString(answer) : NULL;
    if (!out)
        return NULL;
#define PUT(text, length) (memcpy(out, text, length), out += (length))
    PUT(head, head_length);
    PUT("\r\n", 2);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (noted[i].name_length) {
            PUT(noted[i].name, noted[i].name_length);
            PUT(": ", 2);
        }
        PUT(noted[i].value, noted[i].value_length);
        if (noted[i].is_to) {
            PUT(";tag=", 5);
            PUT(tag, tag_length);
        }
        PUT("\r\n", 2);
    }
    PUT(end, sizeof end - 1);
#undef PUT
    return answer;
}

/* ---- head(): start line and header lines of a message, with a Content-Length */

#define MOST_WRITTEN 128 /* lines; the Python twin takes longer messages */

typedef struct {
    const char *text[3];
    Py_ssize_t length[3];
} Written;

static PyObject *head(PyObject *module, PyObject *const *args, Py_ssize_t count_of_args)
{
    Written written[MOST_WRITTEN];
    char number[24];
    (void)module;
    if (count_of_args != 3 || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "head(start_line, lines, length)");
        return NULL;
    }
    PyObject *lines = args[1];
    Py_ssize_t body = PyLong_AsSsize_t(args[2]), count = PyList_Size(lines), start_length;
    if (body == -1 && PyErr_Occurred())
        return NULL;
    int digits = snprintf(number, sizeof number, "%lld", (long long)body), given = 0;
    const char *start = PyUnicode_AsUTF8AndSize(args[0], &start_length);
    if (!start || count > MOST_WRITTEN)
        goto twin;
    Py_ssize_t size = start_length + 2 + 2;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *line = PyList_GetItem(lines, i);
        if (!line || !PyTuple_Check(line) || PyTuple_Size(line) != 3)
            goto twin;
        Written *one = &written[i];
        for (int part = 0; part < 3; part++) {
            one->text[part] = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(line, part), &one->length[part]);
            if (!one->text[part])
                goto twin;
        }
        if (one->length[0] == 14 && !memcmp(one->text[0], "Content-Length", 14)) {
            if (given || one->length[2] != digits || memcmp(one->text[2], number, digits))
                goto twin; /* which raises, or knows another spelling */
            given = 1;
        }
        if (one->length[1] != 2 || memcmp(one->text[1], ": ", 2))
            one->length[0] = one->length[2] = 0; /* the middle has the whole line */
        size += one->length[0] + one->length[1] + one->length[2] + 2;
    }
    if (!given)
        size += 16 + digits + 2;
    PyObject *whole = PyBytes_FromStringAndSize(NULL, size);
    char *out = whole ? PyBytes_AsString(whole) : NULL;
    if (!out)
        return NULL;
#define PUT(text, length) (memcpy(out, text, length), out += (length))
    PUT(start, start_length);
    PUT("\r\n", 2);
    for (Py_ssize_t i = 0; i < count; i++) {
        for (int part = 0; part < 3; part++)
            PUT(written[i].text[part], written[i].length[part]);
        PUT("\r\n", 2);
    }
    if (!given) {
        PUT("Content-Length: ", 16);
        PUT(number, digits);
        PUT("\r\n", 2);
    }
    PUT("\r\n", 2);
#undef PUT
    return whole;
twin:
    PyErr_Clear();
    return PyObject_CallFunctionObjArgs(python_head, args[0], lines, args[2], NULL);
}

/* ---- name_addr() and via(): what is remembered, and a new tag or branch */

#define LONGEST_REMEMBERED 256 /* REMEMBERED of grammar.py */

typedef struct {
    PyObject *type, *parameters, *known, *slow; /* the class; Parameters; what remembers; what reads any spelling */
} Values;

static Values address_values, via_values, cseq_values;

/* Return a new reference to type(items): a NamedTuple of these values. Takes over the reference to items. */
static PyObject *named_tuple(PyObject *type, PyObject *items)
{
    if (!items)
        return NULL;
    PyObject *made = PyObject_CallFunctionObjArgs(tuple_new, type, items, NULL);
    Py_DECREF(items);
    return made;
}

/* Return Parameters.of(pairs). Takes over the reference to pairs. */
static PyObject *parameters_of(PyObject *type, PyObject *pairs)
{
    if (!pairs)
        return NULL;
    PyObject *made = PyType_GenericAlloc((PyTypeObject *)type, 0);
    if (made && PyObject_SetAttr(made, pairs_name, pairs))
        Py_CLEAR(made);
    Py_DECREF(pairs);
    return made;
}

/* Return the pair (name, text[0:length]). */
static PyObject *pair_of(PyObject *name, const char *text, Py_ssize_t length)
{
    PyObject *value = PyUnicode_FromStringAndSize(text, length);
    PyObject *pair = value ? PyTuple_New(2) : NULL;
    if (!pair) {
        Py_XDECREF(value);
        return NULL;
    }
    PyTuple_SetItem(pair, 0, Py_NewRef(name));
    PyTuple_SetItem(pair, 1, value);
    return pair;
}

static Py_ssize_t token_length(const char *at, const char *stop)
{
    const char *from = at;
    while (at < stop && is_token[(unsigned char)*at])
        at++;
    return at - from;
}

static const char *find(const char *at, const char *stop, const char *wanted, Py_ssize_t length)
{
    for (; stop - at >= length; at++) {
        at = memchr(at, *wanted, stop - at - length + 1);
        if (!at)
            return NULL;
        if (!memcmp(at, wanted, length))
            return at;
    }
    return NULL;
}

/* Return the text's bytes, or NULL without an exception when there are surrogates in it. */
static const char *bytes_of(PyObject *text, const char **stop)
{
    Py_ssize_t length;
    const char *at = PyUnicode_AsUTF8AndSize(text, &length);
    if (at)
        *stop = at + length;
    else if (PyUnicode_Check(text))
        PyErr_Clear();
    return at;
}

static PyObject *name_addr(PyObject *module, PyObject *text)
{
    static const char mark[] = ";tag=";
    const Py_ssize_t width = sizeof mark - 1;
    const Values *values = &address_values;
    const char *stop, *begin = bytes_of(text, &stop), *tag = NULL;
    (void)module;
    if (!begin)
        return PyErr_Occurred() ? NULL : PyObject_CallFunctionObjArgs(values->slow, text, NULL);
    if (PyUnicode_GetLength(text) > LONGEST_REMEMBERED)
        return PyObject_CallFunctionObjArgs(values->slow, text, NULL);
    for (const char *at = begin; (at = find(at, stop, mark, width)); at++)
        tag = at; /* the last one */
    if (!tag || tag == begin)
        return PyObject_CallFunctionObjArgs(values->known, text, NULL);
    Py_ssize_t length = stop - tag - width;
    if (!length || token_length(tag + width, stop) != length)
        return PyObject_CallFunctionObjArgs(values->slow, text, NULL);
    PyObject *before = PyUnicode_FromStringAndSize(begin, tag - begin);
    PyObject *known = before ? PyObject_CallFunctionObjArgs(values->known, before, NULL) : NULL;
    Py_XDECREF(before);
    if (!known) {
        if (!before || !PyErr_ExceptionMatches(parse_error))
            return NULL;
        PyErr_Clear(); /* the tag was somewhere else */
        return PyObject_CallFunctionObjArgs(values->slow, text, NULL);
    }
    PyObject *result = NULL, *uri = PyTuple_GetItem(known, 0), *display = PyTuple_GetItem(known, 1);
    PyObject *others = PyTuple_GetItem(known, 2);
    if (others && others != no_parameters) {
        result = PyObject_CallFunctionObjArgs(values->slow, text, NULL);
    } else if (others) {
        PyObject *pair = pair_of(tag_name, tag + width, length), *pairs = pair ? PyTuple_New(1) : NULL;
        if (pairs)
            PyTuple_SetItem(pairs, 0, pair);
        else
            Py_XDECREF(pair);
        PyObject *parameters = parameters_of(values->parameters, pairs);
        PyObject *items = parameters ? PyTuple_New(3) : NULL;
        if (items) {
            PyTuple_SetItem(items, 0, Py_NewRef(uri));
            PyTuple_SetItem(items, 1, Py_NewRef(display));
            PyTuple_SetItem(items, 2, parameters);
            result = named_tuple(values->type, items);
        } else {
            Py_XDECREF(parameters);
        }
    }
    Py_DECREF(known);
    return result;
}

static PyObject *cseq(PyObject *module, PyObject *text)
{
    const char *stop, *at = bytes_of(text, &stop), *method;
    long number = 0;
    int digits = 0;
    (void)module;
    if (!at && PyErr_Occurred())
        return NULL;
    for (; at && at < stop && *at >= '0' && *at <= '9' && digits < 10; at++, digits++)
        number = number * 10 + (*at - '0');
    method = at ? at + 1 : NULL;
    for (at = method; at && at < stop && *at >= 'A' && *at <= 'Z'; at++)
        ;
    if (!digits || digits > 9 || at != stop || at == method || method[-1] != ' ')
        return PyObject_CallFunctionObjArgs(cseq_values.slow, text, NULL);
    PyObject *items = PyTuple_New(2);
    if (!items)
        return NULL;
    PyTuple_SetItem(items, 0, PyLong_FromLong(number));
    PyTuple_SetItem(items, 1, PyUnicode_FromStringAndSize(method, stop - method));
    if (PyErr_Occurred()) {
        Py_DECREF(items);
        return NULL;
    }
    return named_tuple(cseq_values.type, items);
}

static PyObject *via(PyObject *module, PyObject *text)
{
    static const char mark[] = ";branch=";
    const Py_ssize_t width = sizeof mark - 1;
    const Values *values = &via_values;
    const char *stop, *begin = bytes_of(text, &stop);
    (void)module;
    if (!begin)
        return PyErr_Occurred() ? NULL : PyObject_CallFunctionObjArgs(values->slow, text, NULL);
    const char *found = find(begin, stop, mark, width), *branch = found ? found + width : NULL;
    const char *after = branch ? memchr(branch, ';', stop - branch) : NULL;
    if (branch && !after)
        after = stop;
    if (!branch || branch == after || PyUnicode_GetLength(text) > LONGEST_REMEMBERED || token_length(branch, after) != after - branch)
        return PyObject_CallFunctionObjArgs(values->slow, text, NULL);
    PyObject *before = PyUnicode_FromStringAndSize(begin, found - begin);
    PyObject *rest = before ? PyUnicode_FromStringAndSize(after, stop - after) : NULL;
    PyObject *known = rest ? PyObject_CallFunctionObjArgs(values->known, before, rest, NULL) : NULL;
    Py_XDECREF(before);
    Py_XDECREF(rest);
    if (!known)
        return NULL;
    PyObject *result = NULL, *pairs = NULL;
    if (known == Py_None) {
        result = PyObject_CallFunctionObjArgs(values->slow, text, NULL);
        goto done;
    }
    PyObject *first = PyTuple_GetItem(known, 3), *last = first ? PyTuple_GetItem(known, 4) : NULL;
    if (!last)
        goto done;
    Py_ssize_t before_it = PyTuple_Size(first), after_it = PyTuple_Size(last);
    if (before_it < 0 || after_it < 0)
        goto done;
    pairs = PyTuple_New(before_it + 1 + after_it);
    PyObject *pair = pairs ? pair_of(branch_name, branch, after - branch) : NULL;
    if (!pair) {
        Py_XDECREF(pairs);
        goto done;
    }
    for (Py_ssize_t i = 0; i < before_it; i++)
        PyTuple_SetItem(pairs, i, Py_NewRef(PyTuple_GetItem(first, i)));
    PyTuple_SetItem(pairs, before_it, pair);
    for (Py_ssize_t i = 0; i < after_it; i++)
        PyTuple_SetItem(pairs, before_it + 1 + i, Py_NewRef(PyTuple_GetItem(last, i)));
    PyObject *parameters = parameters_of(values->parameters, pairs);
    PyObject *items = parameters ? PyTuple_New(4) : NULL;
    if (!items) {
        Py_XDECREF(parameters);
        goto done;
    }
    for (int i = 0; i < 3; i++)
        PyTuple_SetItem(items, i, Py_NewRef(PyTuple_GetItem(known, i)));
    PyTuple_SetItem(items, 3, parameters);
    result = named_tuple(values->type, items);
done:
    Py_DECREF(known);
    return result;
}

/* ---- plain_uri(): a SIP URI in its usual spelling */

#define LONGEST_PLAIN_URI 256 /* PLAIN_LENGTH of uri.py */

static PyObject *sip_name, *sips_name, *uri_type, *uri_parameters, *no_uri_parameters, *no_uri_headers;

/* unreserved = alphanum / mark, mark = "-" / "_" / "." / "!" / "~" / "*" / "'" / "(" / ")" */
static int is_unreserved(char c)
{
    return is_alnum(c) || (c && strchr("-_.!~*'()", c));
}

static PyObject *plain_uri(PyObject *module, PyObject *text)
{
    const char *stop, *at = bytes_of(text, &stop);
    (void)module;
    if (!at && PyErr_Occurred())
        return NULL;
    if (!at || stop - at > LONGEST_PLAIN_URI || stop - at < 5 || memcmp(at, "sip", 3))
        Py_RETURN_NONE;
    const char *scheme = at;
    at += at[3] == 's' ? 4 : 3;
    const char *scheme_end = at;
    if (*at++ != ':')
        Py_RETURN_NONE;
    const char *user = at;
    while (at < stop && (is_unreserved(*at) || *at == '+'))
        at++;
    const char *user_end = at, *host = user;
    if (at < stop && *at == '@') {
        if (at == user)
            Py_RETURN_NONE;
        host = at + 1;
    } else {
        user = NULL;
    }
    const char *host_end = at = read_host(host, stop);
    if (!at)
        Py_RETURN_NONE;
    int port = read_port(&at, stop);
    if (!port)
        Py_RETURN_NONE;
    const char *tail = at;
    for (int n = 0; at < stop; n++) {
        if (*at++ != ';' || n == MOST_PARAMETERS)
            Py_RETURN_NONE;
        const char *name = at;
        while (at < stop && is_unreserved(*at))
            at++;
        if (at == name)
            Py_RETURN_NONE;
        if (at < stop && *at == '=') {
            const char *value = ++at;
            while (at < stop && (is_unreserved(*at) || (*at && strchr("[]/:&+$", *at))))
                at++;
            if (at == value)
                Py_RETURN_NONE;
        }
    }
    PyObject *parameters = no_uri_parameters;
    if (tail == stop) {
        Py_INCREF(parameters);
    } else {
        PyObject *written = PyUnicode_FromStringAndSize(tail, stop - tail);
        parameters = written ? PyType_GenericAlloc((PyTypeObject *)uri_parameters, 0) : NULL;
        if (parameters && (PyObject_SetAttr(parameters, pairs_name, Py_None) || PyObject_SetAttr(parameters, text_name, written)))
            Py_CLEAR(parameters);
        Py_XDECREF(written);
    }
    PyObject *items = parameters ? PyTuple_New(8) : NULL;
    if (!items) {
        Py_XDECREF(parameters);
        return NULL;
    }
    PyTuple_SetItem(items, 0, Py_NewRef(scheme_end - scheme == 4 ? sips_name : sip_name));
    PyTuple_SetItem(items, 1, user ? PyUnicode_FromStringAndSize(user, user_end - user) : Py_NewRef(Py_None));
    PyTuple_SetItem(items, 2, PyUnicode_FromStringAndSize(host, host_end - host));
    PyTuple_SetItem(items, 3, port > 0 ? PyLong_FromLong(port) : Py_NewRef(Py_None));
    PyTuple_SetItem(items, 4, parameters);
    PyTuple_SetItem(items, 5, Py_NewRef(no_uri_headers));
    PyTuple_SetItem(items, 6, Py_NewRef(Py_None));
    PyTuple_SetItem(items, 7, PyUnicode_FromStringAndSize(NULL, 0));
    if (PyErr_Occurred()) {
        Py_DECREF(items);
        return NULL;
    }
    return named_tuple(uri_type, items);
}

/* ---- setup: what is shared with the Python twins */

static void keep(PyObject **where, PyObject *what)
{
    PyObject *old = *where;
    *where = Py_NewRef(what);
    Py_XDECREF(old);
}

static PyObject *setup_scan(PyObject *module, PyObject *args)
{
    PyObject *names, *raises;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &names, &raises))
        return NULL;
    forget_all();
    keep(&canonical, names);
    keep(&fail, raises);
    Py_RETURN_NONE;
}

static PyObject *setup_plain_mandatory(PyObject *module, PyObject *type)
{
    (void)module;
    keep(&mandatory, type);
    Py_RETURN_NONE;
}

static PyObject *setup_echo(PyObject *module, PyObject *function)
{
    (void)module;
    keep(&python_echo, function);
    Py_RETURN_NONE;
}

static PyObject *setup_head(PyObject *module, PyObject *function)
{
    (void)module;
    keep(&python_head, function);
    Py_RETURN_NONE;
}

static PyObject *setup_name_addr(PyObject *module, PyObject *args)
{
    PyObject *type, *parameters, *known, *slow, *empty, *error;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOOO", &type, &parameters, &empty, &error, &known, &slow))
        return NULL;
    keep(&address_values.type, type);
    keep(&address_values.parameters, parameters);
    keep(&address_values.known, known);
    keep(&address_values.slow, slow);
    keep(&no_parameters, empty);
    keep(&parse_error, error);
    Py_RETURN_NONE;
}

static PyObject *setup_uri(PyObject *module, PyObject *args)
{
    PyObject *type, *parameters, *none, *no_headers;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO", &type, &parameters, &none, &no_headers))
        return NULL;
    keep(&uri_type, type);
    keep(&uri_parameters, parameters);
    keep(&no_uri_parameters, none);
    keep(&no_uri_headers, no_headers);
    Py_RETURN_NONE;
}

static PyObject *setup_cseq(PyObject *module, PyObject *args)
{
    PyObject *type, *slow;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &type, &slow))
        return NULL;
    keep(&cseq_values.type, type);
    keep(&cseq_values.slow, slow);
    Py_RETURN_NONE;
}

static PyObject *setup_via(PyObject *module, PyObject *args)
{
    PyObject *type, *parameters, *known, *slow;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO", &type, &parameters, &known, &slow))
        return NULL;
    keep(&via_values.type, type);
    keep(&via_values.parameters, parameters);
    keep(&via_values.known, known);
    keep(&via_values.slow, slow);
    Py_RETURN_NONE;
}

static PyObject *forget(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    forget_all();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, "scan(data, max_lines, max_line): see scan.py"},
    {"plain_mandatory", plain_mandatory, METH_O, "plain_mandatory(fields): see mandatory.py"},
    {"echo", (PyCFunction)(void (*)(void))echo, METH_FASTCALL, "echo(lines, echoed, start_line, tag): see echo.py"},
    {"name_addr", name_addr, METH_O, "name_addr(text): NameAddr.parse, see address.py"},
    {"via", via, METH_O, "via(text): Via.parse, see via.py"},
    {"setup_scan", setup_scan, METH_VARARGS, "setup_scan(canonical, fail)"},
    {"setup_plain_mandatory", setup_plain_mandatory, METH_O, "setup_plain_mandatory(Mandatory)"},
    {"head", (PyCFunction)(void (*)(void))head, METH_FASTCALL, "head(start_line, lines, length): see head.py"},
    {"setup_head", setup_head, METH_O, "setup_head(head)"},
    {"setup_echo", setup_echo, METH_O, "setup_echo(echo)"},
    {"setup_name_addr", setup_name_addr, METH_VARARGS, "setup_name_addr(NameAddr, Parameters, EMPTY, ParseError, known, slow)"},
    {"plain_uri", plain_uri, METH_O, "plain_uri(text): see plain() in uri.py"},
    {"cseq", cseq, METH_O, "cseq(text): CSeq.parse, see values.py"},
    {"setup_cseq", setup_cseq, METH_VARARGS, "setup_cseq(CSeq, slow)"},
    {"setup_uri", setup_uri, METH_VARARGS, "setup_uri(URI, URIParameters, NO_URI_PARAMETERS, NO_URI_HEADERS)"},
    {"setup_via", setup_via, METH_VARARGS, "setup_via(Via, Parameters, known, slow)"},
    {"request_key", request_key, METH_O, "request_key(data): see peek.py"},
    {"has_to_tag", has_to_tag, METH_O, "has_to_tag(data): see peek.py"},
    {"usual_length", (PyCFunction)(void (*)(void))usual_length, METH_FASTCALL,
     "usual_length(data, at, section, max_lines, max_line): see framer.py"},
    {"forget", forget, METH_NOARGS, "forget(): drop the remembered spellings, after a name was registered"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_speedups", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__speedups(void)
{
    static const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&usual, ": "}, {&sip_name, "sip"}, {&sips_name, "sips"}, {&pairs_name, "_pairs"}, {&text_name, "_text"},
        {&tag_name, "tag"}, {&branch_name, "branch"}, {&via_name, "Via"}, {&from_name, "From"}, {&to_name, "To"},
        {&call_id_name, "Call-ID"}, {&cseq_name, "CSeq"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*names[i].name = PyUnicode_InternFromString(names[i].text)))
            return NULL;
    tuple_new = PyObject_GetAttrString((PyObject *)&PyTuple_Type, "__new__");
    if (!tuple_new)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddIntConstant(module, "INTERFACE", INTERFACE)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
