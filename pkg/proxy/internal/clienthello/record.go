package clienthello

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Records and messages, RFC 8446 sections 5.1 and 4.
const (
	recordHeader    = 5 // type, version, length
	recordHandshake = 22
	recordVersion   = 3 // the upper half; the lower one is to be ignored

	messageHeader      = 4 // type, length
	messageClientHello = 1
)

// Mistakes in records, and in the message as a whole.
var (
	errTooLong  = fmt.Errorf("it does not end within %d bytes", MaxLen)
	errNoHello  = errors.New("the first message is another one")
	errEmpty    = errors.New("a record of it is empty")
	errMixed    = errors.New("something else comes before its end")
	errFollowed = errors.New("its last record goes on after it")
)

// handshake returns the contents of the first handshake message once it is complete. They are a part of b
// if one record holds them all.
func handshake(b []byte) (message []byte, need int, err error) {
	var (
		head  [messageHeader]byte
		have  int               // bytes of the message in the records so far
		total = recordUnlimited // bytes of the message, once known
	)
	for at := 0; have < total; {
		end, need, err := record(b, at)
		if need > 0 || err != nil {
			return nil, need, err
		}
		begin := at + recordHeader
		here := b[begin:min(end, len(b))]
		if have < len(head) {
			copied := copy(head[have:], here)
			if total, err = messageLen(head[:have+copied]); err != nil {
				return nil, 0, err
			}
		}
		switch have += end - begin; {
		case have > total:
			return nil, 0, errFollowed
		case len(b) < end:
			return nil, end, nil
		}
		at = end
	}
	return join(b, total)[messageHeader:], 0, nil
}

// recordUnlimited is the length of a message that is not known yet.
const recordUnlimited = MaxLen + 1

// record judges the header of the record that begins at byte at, as far as it is there, and returns
// where the record ends.
func record(b []byte, at int) (end, need int, err error) {
	header := b[at:min(at+recordHeader, len(b))]
	if len(header) > 0 && header[0] != recordHandshake || len(header) > 1 && header[1] != recordVersion {
		if at == 0 {
			return 0, 0, ErrNotTLS
		}
		return 0, 0, errMixed
	}
	if len(header) < recordHeader {
		return 0, at + recordHeader, nil
	}
	n := int(binary.BigEndian.Uint16(header[3:]))
	switch end = at + recordHeader + n; {
	case n == 0:
		return 0, 0, errEmpty
	case end > MaxLen:
		return 0, 0, errTooLong
	}
	return end, 0, nil
}

// messageLen returns the length of a message with its header, of which the first bytes are given.
func messageLen(head []byte) (int, error) {
	if len(head) > 0 && head[0] != messageClientHello {
		return 0, errNoHello
	}
	if len(head) < messageHeader {
		return recordUnlimited, nil
	}
	n := messageHeader + (int(head[1])<<16 | int(head[2])<<8 | int(head[3]))
	if n > MaxLen-recordHeader {
		return 0, errTooLong
	}
	return n, nil
}

// join returns the message of that length whose records are complete at the beginning of b.
func join(b []byte, total int) []byte {
	first := recordHeader + int(binary.BigEndian.Uint16(b[3:]))
	if first == recordHeader+total {
		return b[recordHeader:first]
	}
	message := make([]byte, 0, total)
	for len(message) < total {
		end := recordHeader + int(binary.BigEndian.Uint16(b[3:]))
		message = append(message, b[recordHeader:end]...)
		b = b[end:]
	}
	return message
}
