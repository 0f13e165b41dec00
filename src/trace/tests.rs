//! What every reader must do, on small invented files.

use std::fmt::Write as _;
use std::io::{Cursor, Read, Write as _};

use tiershift_core::machine::Machine;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::trace::{
    Format, Kind, Mapping, ReadOptions, RequestReader, ResourceReader, ThreadedReader, TraceError,
    convert, recognise,
};

fn open(text: impl Into<Vec<u8>>, options: &ReadOptions) -> Result<ResourceReader, TraceError> {
    ResourceReader::from_reader(Cursor::new(text.into()), "file", options)
}

/// Reads a trace to its end and writes down everything that comes out.
pub(super) fn render(text: &[u8], options: &ReadOptions) -> String {
    let mut out = String::new();
    let mut body = || -> Result<(), TraceError> {
        let format = options.format.clone().or_else(|| recognise(text).ok());
        let defects = if format.is_none_or(|format| format.kind() == Kind::Resource) {
            let mut reader = open(text, options)?;
            while let Some((at, sample)) = reader.next()? {
                let sample = serde_json::to_string(&sample).unwrap().replace('"', "");
                writeln!(out, "{:>9.3} {sample}", at.as_secs_f64()).unwrap();
            }
            let header = reader.header();
            let began = header.clock.started_at().map(|began| began.to_string());
            writeln!(out, "{} {}", header.format, began.unwrap_or_default()).unwrap();
            for note in &header.notes {
                writeln!(out, "note: {note}").unwrap();
            }
            reader.defects().clone()
        } else {
            let input = Cursor::new(text.to_vec());
            let mut reader = RequestReader::from_reader(input, "file", options)?;
            while let Some((at, request)) = reader.next()? {
                let request = serde_json::to_string(&request).unwrap().replace('"', "");
                writeln!(out, "{:>9.3} {request}", at.as_secs_f64()).unwrap();
            }
            let (format, unsorted) = (&reader.header().format, reader.out_of_order());
            writeln!(out, "{format}, {unsorted} out of order").unwrap();
            reader.defects().clone()
        };
        for defect in defects.first() {
            writeln!(out, "{} {}", defect.kind, defects.describe(defect)).unwrap();
        }
        Ok(())
    };
    if let Err(error) = body() {
        writeln!(out, "error: {error}").unwrap();
    }
    out
}

pub(super) const FORMATS: [(&str, &str); 37] = [
    (
        "native resource",
        "# tiershift resource trace 1\n# started_at: 2026-01-02T03:04:05Z\n# cpus: 4\n\
         at_ns,memory_total_bytes,memory_others_bytes,memory_own_bytes,cpu_others_milli_percent,\
         gpu0_vram_total_bytes,gpu0_vram_others_bytes,gpu0_temperature_milli_celsius\n\
         5000000000,1000,400,100,12500,2000,50,-3000\n7000000000,1000,400,,,,,\n",
    ),
    (
        "native requests",
        "# tiershift request trace 1\nat_ns,prompt_tokens,output_tokens,task,target,priority,patience_ns\n\
         0,10,20,,,,\n0,11,21,code,tier:small,3,5000000000\n1000000000,12,22,,model:a:b,,\n",
    ),
    (
        "pmrep with a blank first row, available memory and processors",
        "Time,\"hinv.ncpu\",\"mem.physmem\",\"mem.util.available\",\"mem.util.swapTotal\",\"mem.util.swapFree\",\
         \"kernel.all.cpu.user\",\"kernel.all.cpu.nice\",\"kernel.all.cpu.sys\",\"kernel.all.load-1 minute\"\n\
         2020-01-01T00:00:00Z,2,1000,,,,,,,\n\
         2020-01-01T00:00:00Z,2,1000,400,100,90,,,,0.5\n\
         2020-01-01T00:00:10Z,2,1000,300,100,90,200.5,0,99.5,0.75\n\
         2020-01-01T00:00:20Z,2,1000,300,100,90,2600,0,99.5,0.75\n\
         2020-01-01T00:00:30Z,2,1000,300,100,90,-2600,0,99.5,0.75\n",
    ),
    (
        "pmrep of an old kernel, without processors",
        "Time,\"mem.util.free\",\"mem.util.used\",\"mem.util.cached\",\"mem.util.bufmem\",\"kernel.all.cpu.user\",\
         \"kernel.all.cpu.nice\",\"kernel.all.cpu.sys\",\"kernel.all.cpu.idle\",\"kernel.all.cpu.wait.total\"\n\
         2020-01-01T00:00:00Z,200,800,300,100,100,50,50,700,100\n",
    ),
    (
        "pmrep with a GPU",
        "Time,\"nvidia.temperature-gpu0\",\"nvidia.gpuactive-gpu0\",\"nvidia.memused-gpu0\",\"nvidia.memtotal-gpu0\"\n\
         2025-07-23T14:02:23Z,57,45,100,1000\n",
    ),
    (
        "gwa-t-12: seconds called ms, memory above 100 %, no memory at all",
        "Timestamp [ms];\tCPU cores;\tCPU usage [MHZ];\tCPU usage [%];\tMemory capacity provisioned [KB];\t\
         Memory usage [KB]\n1372629804;\t4;\t9.5;\t1.25;\t1.6E3;\t400.5\n1372630104;\t4;\t9;\t50;\t1600;\t1601\n\
         1372630104;\t4;\t9;\t50;\t1600;\t1\n1372629904;\t4;\t9;\t50;\t1600;\t1\n1372630404;\t0;\t0;\t0;\t0;\t0\n",
    ),
    (
        "afterburner, restarted with other sensors",
        "00, 30-07-2021 15:43:29, Hardware monitoring log v1.6 \n01, 30-07-2021 15:43:29, A GPU\n\
         02, 30-07-2021 15:43:29, GPU temperature     ,GPU usage           ,Memory usage        ,RAM usage \n\
         03, 30-07-2021 15:43:29, 0                   ,x\n\
         80, 30-07-2021 15:43:30, 61.000              ,4.000               ,512.000             ,2048.000 \n\
         80, 30-07-2021 15:43:31, N/A                 ,5.000               ,512.000             ,2048.000 \n\
         80, 30-07-2021 15:43:32, 60\n99, what, is, this\n\
         02, 30-07-2021 15:43:40, GPU usage           ,CPU usage \n\
         80, 30-07-2021 15:43:40, 7.000               ,9.000 \n",
    ),
    (
        "gpu-z with a doubled name and a hole after the header",
        "        Date        , GPU Clock [MHz] , GPU Temperature [\u{b0}C] , Memory Used [MB] , GPU Load [%] , \
         GPU Load [%] , System Memory Used [MB] ,\0\0\0\n\
         2021-08-02 23:28:33 ,   914.5   ,   67.0   ,   1697   ,   16   ,  99  ,  11515   ,\n\
         2021-08-02 23:28:34 ,   914.5   ,    -     ,   1697   ,   16   ,  99  ,  11515   ,\n",
    ),
    (
        "nvidia-smi, two GPUs, units in the cells, header again",
        "timestamp, index, utilization.gpu [%], memory.used [MiB], memory.total [MiB], temperature.gpu\n\
         2023/06/22 18:53:36.635, 0, 16 %, 754 MiB, 8192 MiB, 50\n\
         2023/06/22 18:53:36.637, 1, 17 %, 755 MiB, 8192 MiB, 51\n\
         timestamp, index, utilization.gpu [%], memory.used [MiB], memory.total [MiB], temperature.gpu\n\
         2023/06/22 18:53:37.635, 0, [N/A], 0.75 GiB, 8192 MiB, 52\n\
         2023/06/22 18:53:37.639, 1, 18 W, 757 MiB, 8192 MiB, 53\n",
    ),
    (
        "nvidia-smi's epoch",
        "timestamp,gpu_utilization,memory_used,memory_total\n1746556382.8348258,0, 5, 15360\n",
    ),
    (
        "nvidia-smi without a header, two GPUs",
        "2025/09/08 14:14:37.120, 1, 11409\n2025/09/08 14:14:37.121, 2, 10851\n2025/09/08 14:14:38.123, 3, 11409\n",
    ),
    (
        "sadf -j",
        "{\"sysstat\": {\"hosts\": [{\"nodename\": \"x\", \"statistics\": [\n\
         {\"timestamp\": {\"date\": \"2020-05-31\", \"time\": \"09:13:52\"}, \"cpu-load\": [{\"cpu\": \"all\", \
         \"user\": 11.5, \"nice\": 0.0, \"system\": 3.5}], \"memory\": {\"memused\": 300, \"memused-percent\": 30.00}, \
         \"queue\": {\"ldavg-1\": 2.71}},\n\
         {\"timestamp\": {\"date\": \"2020-05-31\", \"time\": \"09:13:57\"}, \"queue\": {\"ldavg-1\": 2.75,}},\n\
         {\"timestamp\": {\"date\": \"2020-05-31\", \"time\": \"09:14:02\"}, \"queue\": {\"ldavg-1\": 2.5}}\n]}]}}\n",
    ),
    (
        "sadf -d, all processors and one of them, a restart, then the next table",
        "# hostname;interval;timestamp;CPU;%user;%nice;%system;%iowait;%steal;%idle\n\
         x;5;2020-05-31 09:13:52 UTC;-1;11.50;0.50;3.50;0.00;0.00;84.50\n\
         x;5;2020-05-31 09:13:52 UTC;0;99.00;0.00;1.00;0.00;0.00;0.00\n\
         x;-1;2020-05-31 09:13:55 UTC;LINUX-RESTART\t(8 CPU)\n\
         x;5;2020-05-31 09:13:57 UTC;-1;12.50;0.00;3.50;0.00;0.00;84.00\n\
         # hostname;interval;timestamp;kbmemfree;kbavail;kbmemused;%memused\n\
         x;5;2020-05-31 09:13:52 UTC;600;650;300;30.00\n",
    ),
    (
        "sadf -d of memory",
        "# hostname;interval;timestamp;kbmemfree;kbavail;kbmemused;%memused;kbswpfree;kbswpused\n\
         x;5;2020-05-31 09:13:52 UTC;600;650;300;30.00;90;10\nx;5;2020-05-31 09:13:57 UTC;500;550;400;40.00;80;20\n",
    ),
    (
        "nezha pod, restarted with an older clock, and a time stamp that is wrong",
        "Time,TimeStamp,PodName,CpuUsageRate(%),MemoryUsage(Mi),MemoryUsageRate(%)\n\
         2022-08-22 03:51:19.6 +0000 UTC m=+0.11,1661140279,a-1,5.5,64,50\n\
         2022-08-22 03:52:19.6 +0000 UTC m=+60.1,1861160339,a-1,150,32,25\n\
         2022-08-22 03:50:19.6 +0000 UTC m=+0.11,1661140219,a-2,5.5,64,50\n\
         2022-08-22 03:53:19.6 +0000 UTC m=+120,1661140399,a-1,6,0,0\n",
    ),
    (
        "exathlon, two nodes, -1 where nothing was read",
        "t,node6_CPU_ALL_CPUs,node6_CPU_ALL_Sys%,node6_CPU_ALL_User%,node6_MEM_buffers,node6_MEM_cached,\
         node6_MEM_memfree,node6_MEM_memtotal,node6_MEM_swapfree,node6_MEM_swaptotal,node7_CPU_ALL_CPUs,\
         node7_CPU_ALL_Sys%,node7_CPU_ALL_User%,node7_MEM_memtotal\n\
         1525405459,32.0,1.5,5.25,3.5,100.5,600,1000,0.0,0.0,16,50,50,2000\n\
         1525405460,32.0,-1,-1,3.5,100.5,500,1000,0.0,0.0,16,50,50,2000\n",
    ),
    (
        "mem2log, mode 1, with a torn line",
        "2021-06-06 16:00:47,470: Starting mem2log with interval 1.0s, mode: 1\n\
         2021-06-06 16:00:47,473: MemTotal: 1000.5, SwapTotal: 100.4\n2021-06-06 16:00:47,473: --\n\
         2021-06-06 16:00:47,473: MA is MemAvailable, MF is MemFree, A is Anon\n\
         2021-06-06 16:00:47,474: MA=700=70% MF=650 A=9 F=9 AF=9 IF=9 D=0 C=9 SF=100 SU=0 \n\
         2021-06-06 16:00:48,475: MA=400=40% MF=35\n\
         2021-06-06 16:00:49,475: MA=100=10% MF=50 A=9 F=9 AF=9 IF=9 D=0 C=9 SF=40 SU=60 \n\
         2021-06-06 16:00:50,123: Got the SIGINT signal\n2021-06-06 16:00:50,123:   SU:  min 0.0, max 60.0\n\
         2021-06-06 16:00:50,123: Exit.\n",
    ),
    (
        "mem2log, mode 2",
        "2021-06-06 16:00:47,470: Starting mem2log with interval 1.0s, mode: 2\n\
         2021-06-06 16:00:47,473: MemTotal: 1000.5, SwapTotal: 0.0\n\
         2021-06-06 16:00:47,474: MA=700 MF=650 BU=8 CA=9 SL=9 SF=0 SU=0 DI=0 WR=0 CF=9 SH=9 SL=9 SR=9\n",
    ),
    (
        "psi2log, mode 0 and its head",
        "2021-06-06 16:00:49,404: Starting psi2log, target: SYSTEM_WIDE, mode: 0, interval: 2 sec\n\
         2021-06-06 16:00:49,405:      cpu      ||               io              ||            memory\n\
         2021-06-06 16:00:49,405: ============= || ============================= || =======\n\
         2021-06-06 16:00:49,405:      some     ||      some     |      full     ||      some     |      full     \n\
         2021-06-06 16:00:49,405:  avg10  avg60 ||  avg10  avg60 |  avg10  avg60 ||  avg10  avg60 |  avg10  avg60\n\
         2021-06-06 16:00:49,406:   1.00   1.25 ||   2.50   1.00 |   2.00   0.90 ||   7.50   0.72 |   6.25   0.72\n\
         2021-06-06 16:00:51,406:   1.00   1.25 ||   2.50   1.00 |   2.00   0.90 || 750.00   0.72 |   6.25   0.72\n\
         2021-06-06 16:00:53,406: some memory   39.66   9.76  26.20\n",
    ),
    (
        "burstgpt gpu log",
        "{\"0\": {\"monitor_id\": 0, \"record_time\": 14604572.627870236, \"GPU_used_mem\": 3, \"GPU_total_mem\": 4, \
         \"GPU_utilization\": 0, \"GPU_temperature\": 38}, \"1\": {\"monitor_id\": 1, \"record_time\": \
         14604573.127870236, \"GPU_used_mem\": 3, \"GPU_total_mem\": 4, \"GPU_utilization\": 70, \"GPU_temperature\": null}}",
    ),
    (
        "gpu logger",
        "timestamp,gpu_utilization,memory_used,memory_total\n1746556382.8348258,0, 5, 15360\n1746556383.3348258,7, 6, 15360\n",
    ),
    (
        "sar over midnight, with twelve hours, two tables and a restart",
        "Linux 5.4.0-1 (box) \t03/04/31 \t_x86_64_\t(2 CPU)\n\n11:59:50 PM     CPU     %user     %nice   %system     %idle\n\
         11:59:55 PM     all     10.00      0.50      4.50     85.00\n11:59:55 PM       0     99.00      0.00      1.00      0.00\n\
         12:00:05 AM     all     11.00      0.50      4.50     84.00\nAverage:        all     10.50      0.50      4.50     84.50\n\n\
         11:59:50 PM  proc/s   cswch/s\n11:59:55 PM    1.00     50.00\n\n\
         11:59:50 PM kbmemfree   kbavail kbmemused  %memused\n11:59:55 PM       600       650       300     30.00\n\
         12:00:05 AM       500       550       400     40.00\n",
    ),
    (
        "sar with 24 hours",
        "Linux 5.4.0-1 (box) \t03/04/31 \t_x86_64_\t(2 CPU)\n\n13:20:09        CPU      %usr     %nice      %sys      %irq     %soft     %idle\n\
         13:20:19        all      2.00     12.50      1.50      0.50      0.25     83.25\n",
    ),
    (
        "sadf -p",
        "box\t5\t2031-03-04 08:00:05 UTC\tall\t%user\t2.50\nbox\t5\t2031-03-04 08:00:05 UTC\tall\t%system\t1.50\n\
         box\t5\t2031-03-04 08:00:05 UTC\tcpu0\t%user\t9.00\nbox\t5\t2031-03-04 08:00:10 UTC\tall\t%user\t3.00\n\
         box\t5\t2031-03-04 08:00:05 UTC\t-\tldavg-1\t0.75\n",
    ),
    (
        "vmstat -t, whose first row is the average",
        "procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu----- -----timestamp-----\n r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st                 UTC\n 2  0      0 2000000 295968 312724    0    0     1     3   29   57  9  9 82  0  0 2031-03-04 08:00:00\n10  0      0 2000000 295968 312744    0    0     0     0   41   84  5  1 92  2  0 2031-03-04 08:00:05\n",
    ),
    (
        "typeperf",
        "\"(PDH-CSV 4.0) (W. Europe Standard Time)(-60)\",\"\\\\PC\\Memory\\Available MBytes\",\"\\\\PC\\Processor(_Total)\\% Processor Time\"\n\
         \"03/04/2031 08:00:00.125\",\"900.000000\",\"12.5\"\n\"03/04/2031 08:00:01.125\",\"890.000000\",\" \"\n\
         Exiting, please wait...\nThe command completed successfully.\n",
    ),
    (
        "nvidia-smi with free memory and no index, two cards",
        "timestamp, name, memory.total [MiB], memory.free [MiB]\n2031/03/04 08:00:00.100, A, 8192 MiB, 8000 MiB\n\
         2031/03/04 08:00:00.101, B, 4096 MiB, 4000 MiB\n2031/03/04 08:00:05.100, A, 8192 MiB, 7000 MiB\n\
         2031/03/04 08:00:05.101, B, 4096 MiB, 3000 MiB\n",
    ),
    (
        "gpu-z of old, started twice",
        "        Date        , GPU Temperature [\u{b0}C] , Memory Usage [MB] ,\n2031-03-04 08:00:00 ,   67.0   ,   320   ,\n\
         \u{20}       Date        , Memory Usage [MB] , GPU Temperature [\u{b0}C] ,\n2031-03-04 08:05:00 ,   321   ,   68.0   ,\n",
    ),
    (
        "hwinfo, whose header comes again at the end",
        "Date,Time,\"Total CPU Usage [%]\",\"Physical Memory Used [MB]\",\"Physical Memory Available [MB]\",\"GPU Core Load [%]\"\n\
         4.3.2031,8:00:00.125,12.5,6000,10000,7.0\n4.3.2031,8:00:02.125,13.5,6100,9900,8.0\n\
         Date,Time,\"Total CPU Usage [%]\",\"Physical Memory Used [MB]\",\"Physical Memory Available [MB]\",\"GPU Core Load [%]\"\n",
    ),
    (
        "qwen-bailian",
        "{\"chat_id\": 1, \"timestamp\": 0.25, \"input_length\": 9, \"output_length\": 3}\n\
         {\"chat_id\": 2, \"timestamp\": 60.5, \"input_length\": 8, \"output_length\": 2}\n",
    ),
    (
        "azure, no final newline",
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8",
    ),
    (
        "mooncake",
        "{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0]}\n\
         {\"timestamp\": 3000, \"input_length\": -1, \"output_length\": 500}\n{\"timestamp\": 3000, \"in\n\
         {\"timestamp\": 3000, \"input_length\": 7, \"output_length\": 5}\n",
    ),
    (
        "burstgpt, with a request that failed",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,400,20,420,Conversation log\n\
         5,ChatGPT,300,0,300,API log\n48,GPT-4,90,7,97,API log\n",
    ),
    (
        "burstgpt with sessions",
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
         5.5,a-1,2.5,ChatGPT,400,20,420,Conversation log\n48.25,a-2,,GPT-4,90,7,97,API log\n",
    ),
    (
        "burstgpt detail log in order of completion",
        "{\"4\": {\"event_id\": 4, \"sampled_in_num\": 40, \"sampled_out_len\": 4, \"total_chunk_time\": 0.5, \
         \"record_time\": 12.5}, \"1\": {\"event_id\": 1, \"sampled_in_num\": 10, \"sampled_out_len\": 1, \
         \"total_chunk_time\": 3.25, \"record_time\": 14.0}}",
    ),
    (
        "inferencex",
        "start_time_ms,relative_time_sec,input_num_tokens,output_num_tokens\n3220530490.5,0.002,3,12\n3220530488.5,0,71,134\n",
    ),
    (
        "vllm bench",
        "{\"request_id\": \"bench-0\", \"input_toks\": 2358, \"output_toks\": 531, \"arrival_time\": 1777142838.338653}\n\
         {\"request_id\": \"bench-1\", \"input_toks\": 1034, \"output_toks\": 769, \"arrival_time\": 1777142838.6237123}\n",
    ),
];

#[test]
fn every_format_is_recognised_and_read() {
    let mut out = String::new();
    for (title, text) in FORMATS {
        writeln!(out, "== {title}\n{}", render(text.as_bytes(), &ReadOptions::default())).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn every_defect_is_counted_with_its_place() {
    const HEAD: &str = "# tiershift resource trace 1\nat_ns,memory_total_bytes,memory_others_bytes,cpu_others_milli_percent\n";
    let mut out = String::new();
    for (title, rows) in [
        ("width", "0,9,5,1\n1,9,5\n2,9,5,1,1\n3,9,5,1\n"),
        (
            "time",
            "0,9,5,1\nx,9,5,1\n,9,5,1\n-1,9,5,1\n99999999999999999999,9,5,1\n1,9,5,1\n2,9,5,1\n3,9,5,1\n",
        ),
        ("order", "5,9,5,1\n3,9,5,1\n5,9,5,1\n6,9,5,1\n"),
        ("jump", "5,9,5,1\n99999999999999999,9,5,1\n6,9,5,1\n"),
        ("blank", "0,,,\n1,9,5,1\n\n2,9,,\n3,9,5,1\n"),
        ("words", "0,9,NaN,1\n1,9,five,1\n2,9,inf,1\n3,9,\"5\",1\n4,9,5.5,1\n5,9, 5 ,1\n"),
        ("impossible", "0,9,-5,1\n1,9,5,-1\n2,9,5,100501\n3,0,0,1\n4,99999999999999999999,1,1\n"),
        ("over", "0,9,10,100500\n"),
        ("gap", "0,9,5,1\n1,9,5,1\n2,9,5,1\n5,9,5,1\n9,9,5,1\n"),
        ("cut off", "0,9,5,1\n1,9,5,1"),
        ("carriage returns", "0,9,5,1\r\n1,9,5,1\r\n"),
        ("not UTF-8", "0,9,\u{fffd},1\n"),
        ("nothing usable", "0,,,\n"),
        ("nothing", ""),
    ] {
        let text = format!("{HEAD}{rows}");
        writeln!(out, "== {title}\n{}", render(text.as_bytes(), &ReadOptions::default())).unwrap();
        let strict = ReadOptions { strict: true, ..ReadOptions::default() };
        if let Some(refused) =
            render(text.as_bytes(), &strict).lines().find(|l| l.starts_with("error"))
        {
            writeln!(out, "strict {refused}\n").unwrap();
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn bad_files_are_refused_with_place_and_remedy() {
    let long = "x".repeat(3 << 20);
    let native = "# tiershift resource trace 1\n";
    let mut out = String::new();
    for (title, text) in [
        ("empty", ""),
        ("unknown", "hello, world\n"),
        ("binary", "\u{7f}ELF\0\0\0"),
        ("zip", "PK\u{3}\u{4}"),
        ("newer", "# tiershift resource trace 2\nat_ns\n0\n"),
        ("no version", "# tiershift resource trace one\nat_ns\n0\n"),
        ("no header", native),
        ("no time", &format!("{native}memory_total_bytes\n1\n")),
        ("unknown column", &format!("{native}at_ns,memory_totel_bytes\n0,1\n")),
        ("column twice", &format!("{native}at_ns,load_milli,load_milli\n0,1,1\n")),
        ("too many GPUs", &format!("{native}at_ns,gpu64_vram_own_bytes\n0,1\n")),
        ("one endless line", &format!("{native}at_ns,load_milli\n0,1\n{long}")),
        ("missing columns", "TIMESTAMP,ContextTokens,GeneratedTokensX\n1,2,3\n"),
        (
            "no processor use",
            "timestamp,value\n2014-04-10 00:04:00,94.0\n2014-04-10 00:09:00,187.0\n",
        ),
        ("json cut off", "{\"0\": {\"monitor_id\": 0, \"record_time\": 1, \"GPU_used_mem\""),
    ] {
        writeln!(out, "== {title}\n{}", render(text.as_bytes(), &ReadOptions::default())).unwrap();
    }
    let wrong = RequestReader::from_reader(Cursor::new(native), "file", &ReadOptions::default());
    writeln!(out, "== wrong kind\nerror: {}", wrong.err().unwrap()).unwrap();
    writeln!(out, "== unknown name\nerror: {}", Format::named("pmreb").unwrap_err()).unwrap();
    let utf16 = render(b"\xff\xfet\0i\0", &ReadOptions::default());
    writeln!(out, "== utf-16\n{utf16}").unwrap();
    let sysstat = render(b"\x96\xd5\x75\x21\x0c\0", &ReadOptions::default());
    writeln!(out, "== sysstat's own data\n{sysstat}").unwrap();
    insta::assert_snapshot!(out);
}

#[test]
fn a_wrong_mapping_is_refused_by_name() {
    let good = "name = \"mine\"\nabout = \"x\"\nkind = \"resource\"\n[layout]\nshape = \"table\"\n[time]\ncolumns = [\"t\"]\n\
                forms = [\"seconds\"]\n[[field]]\nto = \"load_milli\"\nunit = \"1\"\nplus = [\"l\"]\n";
    assert!(Mapping::parse("good.toml", good).is_ok());
    let mut out = String::new();
    for (from, to) in [
        ("shape = \"table\"", "shape = \"tabel\""),
        ("shape = \"table\"", "shape = \"json\""),
        ("shape = \"table\"", "shape = \"table\"\nencoding = \"klingon\""),
        ("about = \"x\"", "abut = \"x\""),
        ("\"seconds\"", "\"fortnights\""),
        ("\"load_milli\"", "\"load\""),
        ("unit = \"1\"", "unit = \"GiB\""),
        ("unit = \"1\"", "unit = \"parsec\""),
        ("plus = [\"l\"]", "plus = []"),
        ("plus = [\"l\"]", "plus = [\"l\"]\nscale = inf"),
        ("shape = \"table\"", "shape = \"text\""),
        ("shape = \"table\"", "shape = \"text\"\nrows = [\"{t} {l\"]"),
        ("shape = \"table\"", "shape = \"text\"\nrows = [\"{t}{l}\"]"),
        ("shape = \"table\"", "shape = \"text\"\nrows = [\"{t} {load}\"]"),
        ("columns = [\"t\"]", "columns = []"),
        ("columns = [\"t\"]", "columns = [\"t\"]\ninterval = \"0s\""),
        ("plus = [\"l\"]", "plus = [\"=l\"]"),
        ("shape = \"table\"", "shape = \"table\"\narrays = true"),
    ] {
        let error = Mapping::parse("bad.toml", &good.replacen(from, to, 1)).unwrap_err();
        writeln!(out, "{}\n", error.to_string().trim_end()).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_users_own_mapping_reads_a_file_that_nobody_knows() {
    let mapping = "name = \"cpu-stats\"\nabout = \"time and processor use\"\nkind = \"resource\"\n\
                   [layout]\nshape = \"table\"\ncolumns = [\"time\", \"cpu\"]\nseparator = \";\"\ncomment = \"//\"\n\
                   [time]\ncolumns = [\"time\"]\nforms = [\"%d.%m.%Y %H:%M\"]\nshortest-gap-seconds = 3600\n\
                   [[field]]\nto = \"cpu_others_milli_percent\"\nunit = \"fraction\"\nplus = [\"cpu\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cpu-stats.toml");
    std::fs::write(&path, mapping).unwrap();
    let format = Format::named(path.to_str().unwrap()).unwrap();
    let options = ReadOptions { format: Some(format), ..ReadOptions::default() };
    let text = "// mine\n08.09.2025 14:14;0.25\n08.09.2025 14:15;0.5\n08.09.2025 14:50;0.75\n";
    let mut reader = open(text, &options).unwrap();
    let mut seen = Vec::new();
    while let Some((at, sample)) = reader.next().unwrap() {
        seen.push((at.as_secs_f64(), sample.cpu.unwrap().others.milli()));
    }
    assert_eq!(seen, [(0.0, 25_000), (60.0, 50_000), (2160.0, 75_000)]);
    assert_eq!(reader.defects().total(), 0, "{:?}", reader.defects());
}

#[test]
fn totals_that_the_file_lacks_are_taken_from_the_options() {
    let text = FORMATS.iter().find(|(title, _)| title.starts_with("gpu-z")).unwrap().1;
    let machine = Machine {
        memory: Bytes::from_gib(16),
        gpus: vec![Bytes::from_gib(8)],
        ..Machine::default()
    };
    let options = ReadOptions { machine: Some(machine.clone()), ..ReadOptions::default() };
    let mut reader = open(text, &options).unwrap();
    let (_, sample) = reader.next().unwrap().unwrap();
    assert_eq!(sample.memory.unwrap().total, Bytes::from_gib(16));
    assert_eq!(sample.gpus[0].vram.unwrap().total, Bytes::from_gib(8));
    assert_eq!(reader.machine(), &machine);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

#[test]
fn packed_traces_are_the_same_traces_and_cut_ones_are_refused() {
    let text = long_trace();
    let plain = read_all(text.clone()).unwrap();
    for (packed, name) in [(gzip(&text), "gzip"), (zstd::encode_all(&text[..], 1).unwrap(), "zstd")]
    {
        assert_eq!(read_all(packed.clone()).unwrap(), plain, "{name}");
        for keep in [packed.len() / 2, packed.len() - 1, 5] {
            let error = read_all(packed[..keep].to_vec()).unwrap_err();
            assert!(error.contains("cut off: fetch or record"), "{name}: {error}");
        }
    }
    let two_members = [gzip(&text[..500]), gzip(&text[500..])].concat();
    assert_eq!(read_all(two_members).unwrap(), plain);
}

fn long_trace() -> Vec<u8> {
    let mut text = "# tiershift resource trace 1\nat_ns,load_milli\n".to_owned();
    for row in 0..5000_u64 {
        writeln!(text, "{},{}", row * 1000, row * row % 977).unwrap();
    }
    text.into_bytes()
}

pub(super) type Everything = (Vec<(Timestamp, Sample)>, String);

pub(super) fn read_all(bytes: Vec<u8>) -> Result<Everything, String> {
    let mut reader = open(bytes, &ReadOptions::default()).map_err(|error| error.to_string())?;
    let mut samples = Vec::new();
    while let Some(next) = reader.next().map_err(|error| error.to_string())? {
        samples.push(next);
    }
    Ok((samples, reader.digest().unwrap().to_string()))
}

#[test]
fn reading_on_a_thread_gives_the_same_samples_in_the_same_order() {
    let (want, digest) = read_all(long_trace()).unwrap();
    let mut reader = ThreadedReader::start(open(long_trace(), &ReadOptions::default()).unwrap());
    let mut got = Vec::new();
    let mut sample = Sample::default();
    while let Some(at) = reader.next_into(&mut sample).unwrap() {
        got.push((at, sample.clone()));
    }
    assert_eq!(got, want);
    assert_eq!(reader.reader().unwrap().digest().unwrap().to_string(), digest);
    assert_eq!(reader.next_into(&mut sample).unwrap(), None);
}

#[test]
fn an_error_on_the_thread_arrives_after_the_samples_before_it() {
    let packed = gzip(&long_trace());
    let cut = packed[..packed.len() / 2].to_vec();
    let mut reader = ThreadedReader::start(open(cut, &ReadOptions::default()).unwrap());
    let mut count = 0;
    let error = loop {
        match reader.next_into(&mut Sample::default()) {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("a cut file has no end"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(count > 1000, "{count}");
    assert!(error.contains("cut off"), "{error}");
}

#[test]
fn a_reader_that_is_dropped_early_leaves_no_thread_waiting() {
    let mut reader = ThreadedReader::start(open(Endless::text(), &ReadOptions::default()).unwrap());
    assert!(reader.next_into(&mut Sample::default()).unwrap().is_some());
    drop(reader);
}

/// A trace of many times the read-ahead.
struct Endless;

impl Endless {
    fn text() -> Vec<u8> {
        let head = b"# tiershift resource trace 1\nat_ns,load_milli\n";
        let rows = (0..200_000_u64).flat_map(|row| format!("{row},1\n").into_bytes());
        head.iter().copied().chain(rows).collect()
    }
}

#[test]
fn a_stream_without_line_ends_is_refused_in_bounded_memory() {
    let head = Cursor::new("# tiershift resource trace 1\nat_ns\n").chain(std::io::repeat(b'1'));
    let mut reader = ResourceReader::from_reader(head, "pipe", &ReadOptions::default()).unwrap();
    let error = reader.next().unwrap_err().to_string();
    assert!(error.starts_with("pipe:3:1: this line is longer than 1 MiB"), "{error}");
}

#[test]
fn a_conversion_reads_back_as_the_same_samples_and_is_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    for (title, text) in FORMATS {
        let from = folder.path().join("from");
        let (to, again) = (folder.path().join("to.csv"), folder.path().join("again.csv"));
        std::fs::write(&from, text).unwrap();
        let options = ReadOptions::default();
        let done = convert(&from, &to, &options, |_| {}).unwrap();
        assert!(done.rows > 0, "{title}");
        let lines = |text: &str| -> Vec<String> {
            let rendered = render(text.as_bytes(), &options);
            rendered.lines().filter(|line| line.starts_with(' ')).map(str::to_owned).collect()
        };
        let written = std::fs::read_to_string(&to).unwrap();
        assert_eq!(lines(&written), lines(text), "{title}");
        convert(&to, &again, &options, |_| {}).unwrap();
        assert_eq!(std::fs::read_to_string(&again).unwrap(), written, "{title}");
    }
    std::fs::write(folder.path().join("from"), "no trace").unwrap();
    let to = folder.path().join("never.csv");
    assert!(convert(&folder.path().join("from"), &to, &ReadOptions::default(), |_| {}).is_err());
    let absent = folder.path().join("no-such-folder").join("to.csv");
    std::fs::write(folder.path().join("from"), FORMATS[0].1).unwrap();
    let error =
        convert(&folder.path().join("from"), &absent, &ReadOptions::default(), |_| {}).unwrap_err();
    assert!(matches!(error, TraceError::Write { .. }), "{error}");
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["again.csv", "from", "to.csv"]);
}

#[test]
fn the_presets_have_distinct_names_that_find_them() {
    for format in Format::known() {
        assert_eq!(Format::named(format.name()).unwrap(), format);
    }
}

#[test]
fn what_the_file_says_of_the_machine_goes_before_what_was_told() {
    let told = Machine { memory: Bytes::from_gib(16), ..Machine::default() };
    let options = ReadOptions { machine: Some(told), ..ReadOptions::default() };
    let text = "# tiershift resource trace 1\nat_ns,memory_total_bytes,memory_others_bytes\n\
                0,8589934592,1\n1000000000,8589934592,2\n";
    let mut reader = open(text, &options).unwrap();
    reader.next().unwrap();
    assert_eq!(reader.machine().memory, Bytes::from_gib(8));
}
