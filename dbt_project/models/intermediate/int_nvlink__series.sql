with intervals as (

    select * from {{ ref('int_nvlink__intervals') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

final as (

    select
        intervals.trace_no,
        intervals.gpu_index,
        intervals.link_id,
        intervals.is_tx,
        sum(
            case
                when intervals.start_ns >= windows.window_start_ns and intervals.end_ns <= windows.window_end_ns
                    then intervals.bytes
                else
                    {{ bytes_between(
                        'intervals.bytes', 'intervals.start_ns', 'intervals.end_ns',
                        'greatest(intervals.start_ns, windows.window_start_ns)',
                        'least(intervals.end_ns, windows.window_end_ns)'
                    ) }}
            end
        ) as bytes,
        count(*) - count(intervals.bytes) as resets,
        min(intervals.end_ns - intervals.start_ns) as least_ns,
        quantile_disc(intervals.end_ns - intervals.start_ns, 0.5) as median_ns,
        -- rate, start and end; of equals the earlier first
        max(
            struct_pack(
                gb_s := intervals.bytes / cast(intervals.end_ns - intervals.start_ns as double),
                minus_start_ns := -intervals.start_ns,
                end_ns := intervals.end_ns
            ),
            {{ var('peak_intervals') }}
        ) filter (where intervals.bytes is not null) as peaks
    from intervals
    inner join windows on intervals.trace_no = windows.trace_no
    where {{ intervals_meet('intervals.start_ns', 'intervals.end_ns', 'windows.window_start_ns', 'windows.window_end_ns') }}
    group by intervals.trace_no, intervals.gpu_index, intervals.link_id, intervals.is_tx

)

select * from final
