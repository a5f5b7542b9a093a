/* scan(): the bytes of a message to its start line and header lines, RFC 3261 §7 and §25.
 *
 * The twin of scan.py: same arguments, same result, same ParseError, letter for letter. Stable ABI, one function;
 * setup(canonical, fail) hands it the two Python functions that both twins share. Names are looked up by their exact
 * spelling in a small table that canonical() fills; no case folding happens here.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
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
static PyObject *canonical, *fail;

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
static int add_line(PyObject *data, const char *begin, const char *at, const char *end, int folded, PyObject *lines, PyObject *fields)
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
    PyObject *line = as_usual ? Py_NewRef(Py_None) : PyUnicode_DecodeUTF8(at, end - at, "surrogateescape");
    PyObject *entry = line ? PyTuple_New(3) : NULL;
    int result = -1;
    if (entry) {
        PyTuple_SetItem(entry, 0, Py_NewRef(name));
        PyTuple_SetItem(entry, 1, Py_NewRef(value));
        PyTuple_SetItem(entry, 2, Py_NewRef(line));
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

static PyObject *scan(PyObject *module, PyObject *args)
{
    PyObject *data;
    Py_ssize_t max_lines, max_line;
    (void)module;
    if (!PyArg_ParseTuple(args, "Snn", &data, &max_lines, &max_line))
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
        if (add_line(data, begin, line, end, folded, lines, fields))
            goto done;
    }
    result = Py_BuildValue("OOOn", start_line, lines, fields, (Py_ssize_t)(at + width - begin));
done:
    Py_XDECREF(start_line);
    Py_XDECREF(lines);
    Py_XDECREF(fields);
    return result;
}

static PyObject *setup(PyObject *module, PyObject *args)
{
    PyObject *names, *raises;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &names, &raises))
        return NULL;
    forget_all();
    Py_XDECREF(canonical);
    Py_XDECREF(fail);
    canonical = Py_NewRef(names);
    fail = Py_NewRef(raises);
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
    {"scan", scan, METH_VARARGS, "scan(data, max_lines, max_line): see scan.py"},
    {"setup", setup, METH_VARARGS, "setup(canonical, fail): the functions shared with scan.py"},
    {"forget", forget, METH_NOARGS, "forget(): drop the remembered spellings, after a name was registered"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_scan", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__scan(void)
{
    return PyModule_Create(&definition);
}
