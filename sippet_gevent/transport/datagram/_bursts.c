/* receive(): reads the datagrams that wait at a UDP socket with one system call, recvmmsg(2). It is
 * the twin of receive() in bursts.py, with the same arguments and results. */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define INTERFACE 1    /* of bursts.py */
#define AT_ONCE 32     /* datagrams of one system call */
#define DATAGRAM 65535 /* DATAGRAM of bursts.py */
#define ANCILLARY 128  /* ANCILLARY of receive_report.py */
#define REMEMBERED 1024 /* a power of two */

/* Only pages that datagrams fill take memory. The interpreter's lock guards them, except while a
 * collection of garbage runs code of Python: then `is_busy` does. */
static int is_busy;
static char texts[AT_ONCE][DATAGRAM];
static struct sockaddr_storage sources[AT_ONCE];
static union {
    struct cmsghdr aligned;
    char bytes[ANCILLARY];
} controls[AT_ONCE];
static struct iovec pieces[AT_ONCE];
static struct mmsghdr headers[AT_ONCE];

/* Addresses seen, so that the datagrams of a peer come with one object. */
static struct {
    socklen_t length;
    unsigned char bytes[sizeof(struct sockaddr_in6)];
    PyObject *address;
} seen[REMEMBERED];

/* Return a new address as socket.recvfrom() has it, None for one of an unknown family. */
static PyObject *read_address(const struct sockaddr_storage *source)
{
    char host[INET6_ADDRSTRLEN];
    if (source->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)source;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        return Py_BuildValue("(si)", host, ntohs(four->sin_port));
    }
    if (source->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)source;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        return Py_BuildValue("(siII)", host, ntohs(six->sin6_port), ntohl(six->sin6_flowinfo), six->sin6_scope_id);
    }
    Py_RETURN_NONE;
}

/* Return a new reference to the address of a datagram. */
static PyObject *address_of(const struct sockaddr_storage *source, socklen_t length)
{
    if (length > sizeof(struct sockaddr_in6))
        return read_address(source);
    unsigned hash = 2166136261u;
    for (socklen_t i = 0; i < length; i++)
        hash = (hash ^ ((const unsigned char *)source)[i]) * 16777619u;
    hash = (hash ^ hash >> 15) & (REMEMBERED - 1);
    if (seen[hash].address && seen[hash].length == length && !memcmp(seen[hash].bytes, source, length)) {
        Py_INCREF(seen[hash].address);
        return seen[hash].address;
    }
    PyObject *address = read_address(source), *other = seen[hash].address;
    if (!address)
        return NULL;
    memcpy(seen[hash].bytes, source, length);
    seen[hash].length = length;
    Py_INCREF(address);
    seen[hash].address = address;
    Py_XDECREF(other);
    return address;
}

/* Return the local address in the control messages of a datagram, as the kernel wrote it; or None. */
static PyObject *local_of(struct msghdr *header)
{
    for (struct cmsghdr *one = CMSG_FIRSTHDR(header); one; one = CMSG_NXTHDR(header, one))
        if ((one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_PKTINFO) ||
            (one->cmsg_level == IPPROTO_IPV6 && one->cmsg_type == IPV6_PKTINFO))
            return PyBytes_FromStringAndSize((char *)CMSG_DATA(one), one->cmsg_len - CMSG_LEN(0));
    Py_RETURN_NONE;
}

/* Return the control messages of a datagram as socket.recvmsg() has them. */
static PyObject *ancillary_of(struct msghdr *header)
{
    PyObject *list = PyList_New(0);
    for (struct cmsghdr *one = CMSG_FIRSTHDR(header); list && one; one = CMSG_NXTHDR(header, one)) {
        PyObject *item = Py_BuildValue("(iiy#)", one->cmsg_level, one->cmsg_type, (char *)CMSG_DATA(one),
                                       (Py_ssize_t)(one->cmsg_len - CMSG_LEN(0)));
        if (!item || PyList_Append(list, item))
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* Append a datagram to the list: (bytes, address, local). -1 on failure. */
static int take(PyObject *list, int i)
{
    PyObject *triple = PyTuple_New(3);
    PyObject *text = PyBytes_FromStringAndSize(texts[i], headers[i].msg_len);
    PyObject *address = address_of(&sources[i], headers[i].msg_hdr.msg_namelen);
    PyObject *local = local_of(&headers[i].msg_hdr);
    if (!triple || !text || !address || !local) {
        Py_XDECREF(triple);
        Py_XDECREF(text);
        Py_XDECREF(address);
        Py_XDECREF(local);
        return -1;
    }
    PyTuple_SetItem(triple, 0, text);
    PyTuple_SetItem(triple, 1, address);
    PyTuple_SetItem(triple, 2, local);
    int failed = PyList_Append(list, triple);
    Py_DECREF(triple);
    return failed;
}

static PyObject *receive(PyObject *module, PyObject *args)
{
    PyObject *raw;
    int most, reported, wants_local, done = 0, error = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oiip", &raw, &most, &reported, &wants_local))
        return NULL;
    int fd = PyObject_AsFileDescriptor(raw);
    if (fd < 0)
        return NULL;
    if (is_busy) /* the loop finds the socket readable again */
        return Py_BuildValue("([]Oi)", Py_None, EAGAIN);
    is_busy = 1;
    PyObject *list = PyList_New(0), *ancillary = Py_None;
    Py_INCREF(ancillary);
    while (list && ancillary && done < most) {
        int wanted = most - done < AT_ONCE ? most - done : AT_ONCE;
        for (int i = 0; i < wanted; i++) {
            pieces[i].iov_base = texts[i];
            pieces[i].iov_len = DATAGRAM;
            headers[i].msg_hdr = (struct msghdr){.msg_name = &sources[i], .msg_namelen = sizeof sources[i], .msg_iov = &pieces[i], .msg_iovlen = 1};
            if (wants_local || done + i == reported) {
                headers[i].msg_hdr.msg_control = controls[i].bytes;
                headers[i].msg_hdr.msg_controllen = ANCILLARY;
            }
        }
        int got = recvmmsg(fd, headers, wanted, MSG_DONTWAIT, NULL);
        if (got < 0) {
            error = errno;
            break;
        }
        for (int i = 0; list && i < got; i++) {
            if (take(list, i))
                Py_CLEAR(list);
            if (list && done + i == reported) {
                Py_DECREF(ancillary);
                ancillary = ancillary_of(&headers[i].msg_hdr);
            }
        }
        done += got;
        if (got < wanted) {
            error = EAGAIN; /* or the next call reports what it was */
            break;
        }
    }
    is_busy = 0;
    if (!list || !ancillary) {
        Py_XDECREF(list);
        Py_XDECREF(ancillary);
        return NULL;
    }
    return Py_BuildValue("(NNi)", list, ancillary, error);
}

static PyMethodDef methods[] = {
    {"receive", receive, METH_VARARGS, "receive(raw, most, reported, wants_local): see bursts.py"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_bursts", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__bursts(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddIntConstant(module, "INTERFACE", INTERFACE)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
