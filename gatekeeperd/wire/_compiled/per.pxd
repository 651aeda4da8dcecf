# C types for per.py.
cimport cython
from libc.stdint cimport int64_t, uint64_t

from gatekeeperd.wire._compiled.per_bits cimport Reader, Writer
from gatekeeperd.wire._compiled.per_types cimport Node, Sized, checked_bytes, shown

cdef str UNKNOWN
cdef object ABSENT
cdef uint64_t ALWAYS
cdef uint64_t FIRST_EXTENSION

@cython.locals(number=int)
cdef int unknown_number(object name, int known) except -2
@cython.locals(length=Py_ssize_t, end=Py_ssize_t, stop=Py_ssize_t)
cdef object decode_open(Reader reader, Node node)
@cython.locals(octets=bytes)
cdef void encode_unknown(Writer writer, object value) except *

cdef class Enumerated(Node):
    cdef tuple names
    cdef dict numbers
    cdef bint extensible
    cdef int root_count
    cdef int width

    @cython.locals(number=int)
    cdef object decode(self, Reader reader)
    @cython.locals(number=int)
    cdef void encode(self, Writer writer, object value) except *

cdef class SequenceOf(Sized):
    cdef Node item

    @cython.locals(count=Py_ssize_t, values=list, item=Node)
    cdef object decode(self, Reader reader)
    @cython.locals(index=Py_ssize_t, item=Node)
    cdef void encode(self, Writer writer, object value) except *

cdef class Choice(Node):
    cdef tuple root
    cdef tuple extensions
    cdef dict numbers
    cdef bint extensible
    cdef int root_count
    cdef int width

    @cython.locals(number=int, node=Node)
    cdef object decode(self, Reader reader)
    @cython.locals(number=int, node=Node)
    cdef object _decode_extension(self, Reader reader)
    @cython.locals(number=int, node=Node, start=Py_ssize_t)
    cdef void encode(self, Writer writer, object value) except *

cdef class Sequence(Node):
    cdef tuple root
    cdef tuple extensions
    cdef dict numbers
    cdef bint extensible
    cdef int root_count
    cdef int field_count
    cdef int preamble_width

    @cython.locals(preamble=uint64_t, bit=uint64_t, node=Node, fields=dict)
    cdef object decode(self, Reader reader)
    @cython.locals(count=int, present=uint64_t, known=int, number=int, node=Node)
    cdef void _decode_extensions(self, Reader reader, dict fields) except *
    @cython.locals(index=int, present=uint64_t, slots=list, unknown=dict, node=Node)
    cdef void encode(self, Writer writer, object value) except *
    @cython.locals(root_count=int, number=int, numbers=dict, present=uint64_t)
    cdef uint64_t _place(self, dict fields, list slots, dict unknown) except? 0xFFFFFFFFFFFFFFFF
    @cython.locals(index=int, bit=uint64_t, preamble=uint64_t)
    cdef uint64_t _preamble(self, list slots, uint64_t present) except? 0xFFFFFFFFFFFFFFFF
    @cython.locals(known=int, count=int, number=int, node=Node, start=Py_ssize_t)
    cdef void _encode_extensions(self, Writer writer, list slots, uint64_t present, dict unknown) except *

cpdef object decode(Node node, bytes data, Py_ssize_t items)
cpdef bytes encode(Node node, object value)
