// Package h1 reads and writes the heads and bodies of HTTP/1.1, strictly, in the bytes that came.
//
// A proxy and the server behind it must see the same request. Where the grammar leaves room for two
// readings, this package takes none: the request is refused. What it accepts has one reading only,
// and AppendField and its like write exactly that.
//
//	var scan h1.Scanner
//	n, err := scan.End(buf)       // 0: the head is not whole yet
//	err = req.Parse(buf[:n])      // an Error carries the status to answer with
//	body := h1.NewBody(req.Framing, req.Length)
//	payload, used, err := body.Next(buf[n:])
//
// All byte slices of a Request, a Response and a Body point into the buffer they were read from, and
// live as long as its content stays. Nothing is allocated once a Request has seen a head of its size.
//
// # Concurrency
//
// Values are for one goroutine at a time. There is no state outside of them.
//
// # What it does not know
//
// Connections, time, targets: it is given bytes. It decides which fields belong to one hop only; what
// a proxy adds, and whom it believes, is its user's.
package h1
