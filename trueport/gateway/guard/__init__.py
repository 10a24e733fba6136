"""Policy over streams: what of an answer may leave while the rest of it is still being written.

The guarantee: no code point leaves that belongs to a span which an enforced policy redacts or blocks, however the
provider cut the stream into events and the network the events into reads; and what a channel delivers follows from
its text alone. A channel is one text that a client puts together: the content of a choice, its reasoning, the
arguments of one call. Three things make that so:

- Texts are judged at places that depend on nothing but the text (channel.py), and a place is given free only when no
  expression reaches from it past what has been judged. A span that might still grow waits until it has ended.
- Arguments of tools wait until they are whole, are read without their JSON escapes, and stay JSON (arguments.py).
- Every other string of an event is judged where it stands, before the event leaves, together with the end of what
  stood in the same place before. A text that an API repeats whole at its end gets the edits of its channel.

Events wait in line, so that what nothing was found in leaves byte for byte and in the order it came. Choices do not
wait for each other.

What it takes for granted: that expressions are no longer than the judge's rhythm says, and that a text which has been
silent for a whole hold and step, and for 256 code points, while another of the same choice went on is over. If it goes
on after all, a span across that gap loses the part that is not out yet.
"""
