/*
 * Prints what is wrong with a layout, just as `puzzlefs fsck` does.
 *
 *     fsck LAYOUT
 */
#include "check.h"

int main(int argc, char **argv)
{
    puzzlefs_fsck_summary summary = { .size = sizeof(summary) };
    puzzlefs_finding finding = { .size = sizeof(finding) };
    puzzlefs_fsck_report *report;
    puzzlefs_error *error;

    CHECK(argc == 2);
    SUCCEED(puzzlefs_fsck(argv[1], NULL, &report, &error));
    SUCCEED(puzzlefs_fsck_report_summary(report, &summary, &error));
    for (uint64_t index = 0; index < summary.findings; index++) {
        SUCCEED(puzzlefs_fsck_report_finding(report, index, &finding, &error));
        CHECK((finding.severity == PUZZLEFS_SEVERITY_ERROR) == (index < summary.errors));
        printf("%s: %s", finding.severity == PUZZLEFS_SEVERITY_ERROR ? "error" : "warning", finding.message);
        for (size_t tag = 0; tag < finding.tag_count && tag < 100; tag++)
            printf("%s%s", tag == 0 ? " (hurts: " : ", ", finding.tags[tag]);
        if (finding.tag_count > 100)
            printf(" and %zu more", finding.tag_count - 100);
        CHECK(finding.tags[finding.tag_count] == NULL);
        puts(finding.tag_count == 0 ? "" : ")");
    }
    puzzlefs_fsck_report_free(report);
    return summary.errors == 0 ? 0 : 1;
}
