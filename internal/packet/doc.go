// Package packet sends JSON objects and open files from one process to another on the same machine.
//
//	ours, theirs, err := packet.Pair(syscall.SOCK_SEQPACKET)
//	err = packet.Send(ours, message, file)
//	files, err := packet.Receive(ours, &message)
//
// Each object is one packet of a SOCK_SEQPACKET socket, with at most MaxFiles files; what the receiver does not
// know is skipped. Received files are not inherited by children.
//
// One goroutine may send and another one receive at the same time. The package knows no messages.
package packet
