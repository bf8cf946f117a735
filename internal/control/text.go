package control

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// validText makes every string of an answer UTF-8: names of files need not be,
// and a message that holds such a name would not be sent at all.
func validText(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err == nil {
			if m, ok := res.Any().(proto.Message); ok {
				mend(m.ProtoReflect())
			}
		}
		return res, err
	}
}

func mend(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap(): // keys are ours, not files' names
		case f.IsList():
			list := v.List()
			for i := range list.Len() {
				if x, ok := mended(f, list.Get(i)); ok {
					list.Set(i, x)
				}
			}
		default:
			if x, ok := mended(f, v); ok {
				m.Set(f, x)
			}
		}
		return true
	})
}

// mended returns the value to put in v's place, if there is one.
func mended(f protoreflect.FieldDescriptor, v protoreflect.Value) (protoreflect.Value, bool) {
	switch f.Kind() {
	case protoreflect.StringKind:
		s := v.String()
		valid := strings.ToValidUTF8(s, "\uFFFD")
		return protoreflect.ValueOfString(valid), valid != s
	case protoreflect.MessageKind:
		mend(v.Message())
	}
	return v, false
}
