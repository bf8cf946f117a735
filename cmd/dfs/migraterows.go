package main

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// migrateRow is one object that a Windows tool printed: its values by field name,
// in lower case and without punctuation.
type migrateRow map[string][]string

// maxMigrateRows bounds what one file may hold.
const maxMigrateRows = 100_000

// first is the first value of the first of several names that the field goes by
// in one tool or another.
func (r migrateRow) first(names ...string) string {
	if v := r.all(names...); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (r migrateRow) all(names ...string) []string {
	for _, n := range names {
		if v := r[n]; len(v) > 0 && (len(v) > 1 || v[0] != "") {
			return v
		}
	}
	return nil
}

// is reads a yes or no; without one it is what it is by default.
func (r migrateRow) is(byDefault bool, names ...string) bool {
	switch strings.ToLower(r.first(names...)) {
	case "yes", "true", "1", "enabled":
		return true
	case "no", "false", "0", "disabled":
		return false
	}
	return byDefault
}

// readMigration reads what a Windows tool printed: JSON, CSV, a list of "Name :
// value", or dfsradmin's table, in UTF-8 or, as PowerShell writes it, in UTF-16.
func readMigration(b []byte) ([]migrateRow, error) {
	text, err := utf8Text(b)
	if err != nil {
		return nil, err
	}
	var rows []migrateRow
	switch body := strings.TrimSpace(text); {
	case body == "":
		return nil, errors.New("it is empty")
	case body[0] == '[' || body[0] == '{':
		rows, err = jsonRows(body)
	default:
		rows, err = textRows(text)
	}
	if err == nil && len(rows) > maxMigrateRows {
		err = fmt.Errorf("more than %d objects", maxMigrateRows)
	}
	if err == nil && len(rows) == 0 {
		err = errors.New("there is no object in it")
	}
	return rows, err
}

// utf8Text takes off what PowerShell puts around text.
func utf8Text(b []byte) (string, error) {
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}), bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		var order binary.ByteOrder = binary.LittleEndian
		if b[0] == 0xfe {
			order = binary.BigEndian
		}
		units := make([]uint16, 0, len(b)/2)
		for i := 2; i+1 < len(b); i += 2 {
			units = append(units, order.Uint16(b[i:]))
		}
		b = []byte(string(utf16.Decode(units)))
	default:
		b = bytes.TrimPrefix(b, []byte("\ufeff"))
	}
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return "", errors.New("it is neither UTF-8 nor UTF-16 text; save it by `… | Out-File -Encoding utf8`")
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n"), nil
}

// fieldName brings the name of a field into the form of migrateRow.
func fieldName(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return unicode.ToLower(c)
		}
		return -1
	}, s)
}

// jsonRows reads the output of ConvertTo-Json: one object or a list.
func jsonRows(body string) ([]migrateRow, error) {
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	var rows []migrateRow
	for d.More() { // several files may have been put behind each other
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("the JSON is broken: %w", err)
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, o := range list {
			fields, ok := o.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("the JSON holds %T where an object was expected", o)
			}
			row := make(migrateRow)
			for k, v := range fields {
				row[fieldName(k)] = jsonTexts(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// jsonTexts are the values of a field: of a list each.
func jsonTexts(v any) []string {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		var list []string
		for _, o := range v {
			list = append(list, jsonTexts(o)...)
		}
		return list
	case map[string]any: // PowerShell 5 wraps lists: {"value": [...], "Count": n}
		if inner, ok := v["value"]; ok {
			return jsonTexts(inner)
		}
		return nil
	case string:
		return []string{v}
	}
	return []string{fmt.Sprint(v)}
}

// textRows reads tables, CSV and lists: blocks with empty lines between them.
func textRows(text string) ([]migrateRow, error) {
	var rows []migrateRow
	var block []string
	flush := func() error {
		lines := block
		block = nil
		more, err := blockRows(lines)
		rows = append(rows, more...)
		return err
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\n\r")
		if line == "" || strings.HasPrefix(line, "Command completed") {
			if err := flush(); err != nil {
				return nil, err
			}
			continue
		}
		block = append(block, line)
	}
	return rows, flush()
}

func blockRows(lines []string) ([]migrateRow, error) {
	if len(lines) > 0 && strings.HasPrefix(lines[0], "#TYPE") { // of Export-Csv
		lines = lines[1:]
	}
	switch {
	case len(lines) == 0:
		return nil, nil
	case isListLine(lines[0]):
		return []migrateRow{listRow(lines)}, nil
	case strings.Contains(lines[0], ","):
		return csvRows(lines)
	}
	return tableRows(lines), nil
}

// isListLine says that a line is of Format-List: "GroupName : projects".
func isListLine(line string) bool {
	name, _, ok := strings.Cut(line, " : ")
	if !ok {
		name, ok = strings.CutSuffix(line, " :")
	}
	return ok && !strings.ContainsAny(strings.TrimSpace(name), " \\")
}

func listRow(lines []string) migrateRow {
	row, last := make(migrateRow), ""
	for _, line := range lines {
		if !isListLine(line) { // a value that goes on
			if v := row[last]; len(v) > 0 {
				v[0] += "\n" + strings.TrimSpace(line)
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		last = fieldName(name)
		value = strings.TrimSpace(value)
		if inner, ok := strings.CutPrefix(value, "{"); ok { // a list
			for v := range strings.SplitSeq(strings.TrimSuffix(inner, "}"), ",") {
				row[last] = append(row[last], strings.TrimSpace(v))
			}
			continue
		}
		row[last] = []string{value}
	}
	return row
}

func csvRows(lines []string) ([]migrateRow, error) {
	r := csv.NewReader(strings.NewReader(strings.Join(lines, "\n")))
	r.FieldsPerRecord = -1
	r.TrimLeadingSpace = true
	all, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("the CSV is broken: %w", err)
	}
	if len(all) < 2 {
		return nil, nil
	}
	var rows []migrateRow
	for _, values := range all[1:] {
		row := make(migrateRow)
		for i, v := range values {
			if i < len(all[0]) {
				row[fieldName(all[0][i])] = []string{strings.TrimSpace(v)}
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// tableRows reads dfsradmin's table: names in the first line, values beneath them
// from the same column on.
func tableRows(lines []string) []migrateRow {
	head := []rune(lines[0])
	var starts []int
	for i, c := range head {
		if c != ' ' && (i == 0 || head[i-1] == ' ') {
			starts = append(starts, i)
		}
	}
	cell := func(line []rune, i int) string {
		from, to := starts[i], len(line)
		if i+1 < len(starts) {
			to = min(starts[i+1], len(line))
		}
		return strings.TrimSpace(string(line[min(from, to):to]))
	}
	var rows []migrateRow
	for _, text := range lines[1:] {
		if strings.Trim(text, "- ") == "" { // a rule beneath the names
			continue
		}
		line, row := []rune(text), make(migrateRow)
		for i := range starts {
			row[fieldName(cell(head, i))] = []string{cell(line, i)}
		}
		rows = append(rows, row)
	}
	return rows
}

// splitPatterns reads a filter as the tools print it: a list, or one text with
// commas.
func splitPatterns(values []string) []string {
	var list []string
	for _, v := range values {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" && !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	return list
}
