// Package forwarded makes the headers that tell a target where a request came from: Forwarded
// (RFC 7239), X-Forwarded-For, -Host, -Proto, -Port and X-Real-IP.
//
// A program that reads those believes them, so a stranger must not write them. The proxy passes on
// the fields of a request's head, except those for which Classify says that they speak of the origin;
// of a trusted client it gives these to Heard. Then it appends its own:
//
//	o := forwarded.Origin{Client: client, Local: local, Host: host, TLS: true}
//	for each field {
//		switch forwarded.Classify(name) {
//		case forwarded.None: pass it on
//		case forwarded.Other: pass it on if the client is trusted
//		case forwarded.Alias:
//		default: if the client is trusted { o.Heard(kind, value) }
//		}
//	}
//	head = o.AppendLines(head)
//
// Spellings with underscores (X_Forwarded_For) are an Alias of the dashed ones for many programs, and
// are dropped whoever sends them. X-Forwarded-Prefix, -User and the like are Other: only a trusted
// client may send them.
//
// What a trusted client says is kept, and the client's address is appended to both lists. X-Real-IP is
// then the last address of X-Forwarded-For that is not trusted itself.
//
// An Origin belongs to one goroutine. Values must be free of CR, LF and NUL; a parsed head is. Nothing
// is allocated unless a list is joined.
package forwarded
