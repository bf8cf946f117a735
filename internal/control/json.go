package control

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// JSON writes a message as `--json` shows it: lowerCamelCase names in the order
// of the specification, every field always there, numbers as numbers, lists
// never null, bytes as text. It ends with a line feed.
func JSON(m proto.Message) ([]byte, error) {
	var b strings.Builder
	if err := writeMessage(&b, m.ProtoReflect(), "\n"); err != nil {
		return nil, fmt.Errorf("write JSON of %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	b.WriteByte('\n')
	return []byte(b.String()), nil
}

func writeMessage(b *strings.Builder, m protoreflect.Message, newline string) error {
	if !m.IsValid() {
		b.WriteString("null")
		return nil
	}
	fields := m.Descriptor().Fields()
	b.WriteByte('{')
	for i := range fields.Len() {
		f := fields.Get(i)
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%s  %q: ", newline, f.JSONName())
		if err := writeField(b, m, f, newline+"  "); err != nil {
			return err
		}
	}
	if fields.Len() > 0 {
		b.WriteString(newline)
	}
	b.WriteByte('}')
	return nil
}

func writeField(b *strings.Builder, m protoreflect.Message, f protoreflect.FieldDescriptor, newline string) error {
	v := m.Get(f)
	if !f.IsList() {
		return writeValue(b, f, v, newline)
	}
	list := v.List()
	b.WriteByte('[')
	for i := range list.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(newline + "  ")
		if err := writeValue(b, f, list.Get(i), newline+"  "); err != nil {
			return err
		}
	}
	if list.Len() > 0 {
		b.WriteString(newline)
	}
	b.WriteByte(']')
	return nil
}

func writeValue(b *strings.Builder, f protoreflect.FieldDescriptor, v protoreflect.Value, newline string) error {
	var value any = v.Interface()
	switch f.Kind() {
	case protoreflect.MessageKind:
		return writeMessage(b, v.Message(), newline)
	case protoreflect.BytesKind:
		value = string(v.Bytes())
	}
	text, err := json.Marshal(value)
	b.Write(text)
	return err
}
