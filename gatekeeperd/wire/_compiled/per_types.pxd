# C types for per_types.py.
cimport cython
from libc.stdint cimport int64_t, uint64_t

from gatekeeperd.wire._compiled.per_bits cimport Reader, Writer

cpdef str shown(object value)
cdef object checked_int(object value)
cpdef bytes checked_bytes(object value)

cdef class Node:
    cdef object decode(self, Reader reader)
    cdef void encode(self, Writer writer, object value) except *

cdef class Null(Node):
    pass

cdef class Boolean(Node):
    pass

cdef class ConstrainedInteger(Node):
    cdef int64_t low
    cdef int64_t high
    cdef bint aligned
    cdef int count_bits
    cdef int width

    @cython.locals(width=int, count=int, value=int64_t)
    cdef int64_t read(self, Reader reader) except? -1
    @cython.locals(width=int, count=int)
    cdef void write(self, Writer writer, int64_t value) except *

cdef class Integer(Node):
    pass

cdef class SemiConstrainedInteger(Node):
    cdef object low

cdef class ExtensibleInteger(Node):
    cdef ConstrainedInteger within
    cdef Integer outside

cdef class Sized(Node):
    cdef Py_ssize_t low
    cdef Py_ssize_t high
    cdef bint aligned
    cdef ConstrainedInteger counter

    cdef Py_ssize_t read_size(self, Reader reader) except -1
    cdef void write_size(self, Writer writer, Py_ssize_t count) except *

cdef class OctetString(Sized):
    @cython.locals(count=Py_ssize_t)
    cdef object decode(self, Reader reader)
    @cython.locals(octets=bytes)
    cdef void encode(self, Writer writer, object value) except *

cdef class BitString(Sized):
    @cython.locals(count=Py_ssize_t)
    cdef object decode(self, Reader reader)

cdef class LatinString(Sized):
    cdef str alphabet

    @cython.locals(count=Py_ssize_t, octets=bytes, text=str)
    cdef object decode(self, Reader reader)
    @cython.locals(octets=bytes)
    cdef void encode(self, Writer writer, object value) except *

cdef class DigitString(Sized):
    cdef str alphabet
    cdef dict to_text
    cdef dict to_digits

    @cython.locals(count=Py_ssize_t, octets=bytes, text=str)
    cdef object decode(self, Reader reader)
    @cython.locals(count=Py_ssize_t, digits=str)
    cdef void encode(self, Writer writer, object value) except *

cdef class BmpString(Sized):
    @cython.locals(octets=bytes)
    cdef object decode(self, Reader reader)
    @cython.locals(octets=bytes)
    cdef void encode(self, Writer writer, object value) except *

cdef class ObjectIdentifier(Node):
    pass
